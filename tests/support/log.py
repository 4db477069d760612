"""The lines of a server's log, held to their schema."""

import json
import re
from typing import Any

from jsonschema import Draft202012Validator

from tools import ROOT

SCHEMA = json.loads((ROOT / "docs/reference/log.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def check_lines(text: str) -> list[dict[str, Any]]:
    """Return the lines of a log, each valid JSON; of those that differ in digits alone, one is held to the schema."""
    lines = text.splitlines()
    for line in {re.sub(r"[0-9]+|\b[0-9a-f]{12,32}\b", "0", line): line for line in lines}.values():
        errors = [error.message for error in VALIDATOR.iter_errors(json.loads(line))]
        assert not errors, f"{line}\n{errors}"
    return [json.loads(line) for line in lines]
