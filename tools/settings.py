"""Writes the table of settings into docs/reference/settings.md: python -m tools.settings."""

from service.settings import settings_table
from tools import ROOT
from tools.markers import replaced

PAGE = ROOT / "docs/reference/settings.md"
BEGIN, END = "<!-- settings: written by make docs -->\n", "<!-- end of settings -->"


def with_table(text: str) -> str:
    """Return the text of the page with the current table.

    Raises:
        ValueError: If the page has no markers for the table.
    """
    return replaced(text, BEGIN, END, f"{settings_table()}\n")


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
