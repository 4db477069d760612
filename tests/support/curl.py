"""Does what a curl command of the pages says, on machines without curl too; options that no page uses are errors."""

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main() -> None:
    """Send one request and write the body of the response, whatever its status is."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("-o", dest="output", type=Path)
    parser.add_argument("url")
    options = parser.parse_args()
    body = None
    if options.data is not None:
        body = Path(options.data[1:]).read_bytes() if options.data.startswith("@") else options.data.encode()
    headers = dict(header.split(": ", 1) for header in options.headers)
    content = _content(urllib.request.Request(f"http://{options.url}", body, headers))
    if options.output:
        options.output.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)


def _content(request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


if __name__ == "__main__":
    main()
