"""Write the settings table into the README: python -m docs.settings."""

from pathlib import Path

from service.config import settings_table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings: written by make docs -->\n", "<!-- end of settings -->"


def with_table(text: str) -> str:
    """Return the README's text with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{settings_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
