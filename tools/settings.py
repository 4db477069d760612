"""Write the settings table into the README: python -m tools.settings."""

from service.config import settings_table
from tools import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- settings: written by make docs -->\n", "<!-- end of settings -->"


def with_table(text: str) -> str:
    """Return the README's text with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{settings_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
