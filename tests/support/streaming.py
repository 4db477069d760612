"""The service with one more route, as those who extend it may add: python -m tests.support.streaming."""

import sys
from collections.abc import Iterator
from typing import Any

from flask import Flask

from service.__main__ import main
from service.api import app
from service.server import application

PIECES = [f"{number:07}\n".encode() * 1000 for number in range(1000)]  # 8 MB


def create_app(*arguments: Any) -> Flask:
    """Return the API with /stream, whose answer is made piece by piece, and /fail, whose answer breaks off."""
    made = app.create_app(*arguments)

    @made.get("/stream")
    def stream() -> Iterator[bytes]:
        yield from PIECES

    @made.get("/fail")
    def fail() -> Iterator[bytes]:
        yield PIECES[0]
        raise ValueError("in the middle")

    return made


if __name__ == "__main__":
    application.create_app = create_app
    sys.exit(main(sys.argv[1:]))
