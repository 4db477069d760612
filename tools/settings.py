"""Writes the table of settings into docs/reference/settings.md: python -m tools.settings."""

from service.settings import settings_table
from tools import ROOT

PAGE = ROOT / "docs/reference/settings.md"
BEGIN, END = "<!-- settings: written by make docs -->\n", "<!-- end of settings -->"


def with_table(text: str) -> str:
    """Return the text of the page with the current table.

    Raises:
        ValueError: If the page has no markers for the table.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no lines {BEGIN.strip()} and {END}")
    return f"{before}{BEGIN}{settings_table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
