"""The service with two more routes, added as docs/how-to/extend.md says: python -m tests.support.streaming."""

import sys
from collections.abc import Iterator

from flask import Flask

from service.commands.serve import serve
from service.settings import Settings

PIECES = [f"{number:07}\n".encode() * 1000 for number in range(1000)]  # 8 MB


def extend(app: Flask) -> None:
    """Add /stream, whose answer is made piece by piece, and /fail, whose answer breaks off."""

    @app.get("/stream")
    def stream() -> Iterator[bytes]:
        yield from PIECES

    @app.get("/fail")
    def fail() -> Iterator[bytes]:
        yield PIECES[0]
        raise ValueError("in the middle")


if __name__ == "__main__":
    sys.exit(serve(Settings.from_env(), extend))
