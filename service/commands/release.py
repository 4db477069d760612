"""How the checks of a release end: the error, and the report to its health port."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.artifact.manifest import ArtifactError
from service.commands.http_client import ClientError, notify


class ReleaseError(Exception):
    """The image, or the release, is not what was asked for; the message is one sentence."""


@contextmanager
def reporting_to(check: str, health_url: str | None) -> Iterator[None]:
    """Have the release at this health port, if it is known, count how the check in this block ends."""

    def tell_result(result: str) -> None:
        if health_url:
            notify(f"{health_url}/checks", {"check": check, "result": result})

    try:
        yield
    except (ArtifactError, ClientError, ReleaseError):
        tell_result("refused")
        raise
    tell_result("passed")
