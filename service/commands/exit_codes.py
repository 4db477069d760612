"""The exit codes of python -m service, each with its meaning; --help lists them."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2  # argparse's own
EXIT_MODEL_REFUSED = 3  # Gunicorn's WORKER_BOOT_ERROR
EXIT_RELEASE_REFUSED = 4
EXIT_ARTIFACT_REFUSED = 65  # EX_DATAERR of sysexits.h
EXIT_SETTINGS_REFUSED = 78  # EX_CONFIG of sysexits.h

MEANINGS = {
    EXIT_OK: "all is well; for serve: stopped by SIGTERM",
    EXIT_FAILED: "drain found no process, or healthcheck no live server",
    EXIT_USAGE: "the command line is wrong",
    EXIT_MODEL_REFUSED: "serve: the model does not load, or does not give its golden answers",
    EXIT_RELEASE_REFUSED: "check refuses model version, latency or contract; smoke refuses the release",
    EXIT_ARTIFACT_REFUSED: "the artifact is refused before anything in it is loaded; for check also: as 3",
    EXIT_SETTINGS_REFUSED: "the settings are wrong",
}


def exit_code_table() -> str:
    """Return all exit codes with their meanings, one a line."""
    return "".join(f"  {code:<3} {meaning}\n" for code, meaning in MEANINGS.items())
