"""Exit codes are declared once; those that others choose are theirs."""

import os
import subprocess
import sys

import pytest
from gunicorn.arbiter import Arbiter

from service.__main__ import main
from service.commands import exit_codes
from tests.conftest import ROOT


def test_a_model_that_does_not_load_ends_gunicorn_with_the_declared_code():
    """The worker exits with Gunicorn's code, and the master passes it on."""
    assert exit_codes.EXIT_MODEL_REFUSED == Arbiter.WORKER_BOOT_ERROR


def test_configuration_and_data_errors_are_those_of_sysexits():
    """As the C library has them."""
    assert (exit_codes.EXIT_ARTIFACT_REFUSED, exit_codes.EXIT_SETTINGS_REFUSED) == (os.EX_DATAERR, os.EX_CONFIG)


def test_a_wrong_command_line_ends_with_the_declared_code():
    """Argparse chooses it."""
    with pytest.raises(SystemExit) as ended:
        main(["no-such-command"])
    assert ended.value.code == exit_codes.EXIT_USAGE


def test_the_help_lists_every_exit_code():
    """With its meaning."""
    done = subprocess.run(
        [sys.executable, "-m", "service", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    declared = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")}
    assert set(exit_codes.MEANINGS) == declared
    assert all(f"\n  {code:<3} {meaning}\n" in done.stdout for code, meaning in exit_codes.MEANINGS.items())
