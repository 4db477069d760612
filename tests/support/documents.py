"""The Markdown pages of the repository: their commands, their links, and the anchors of their headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools import ROOT

DOCS = ROOT / "docs"
CHART_README = ROOT / "helm/bakehouse/README.md"
PAPERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md")]
PAGES = [*PAPERS, *sorted(DOCS.rglob("*.md"))]

FENCE = re.compile(r"^(```|~~~)(\w*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command of a page, and the output that the page shows under it; empty if it shows none."""

    text: str
    output: str = ""


def commands(page: Path) -> list[Command]:
    """Return the commands of a page's console and sh blocks, in order."""
    return [command for kind, text in blocks(page) for command in _commands(kind, text)]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page: their language and their text."""
    return [(kind, text) for _, kind, text in FENCE.findall(page.read_text())]


def _commands(kind: str, text: str) -> Iterator[Command]:
    if kind == "console":
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Command(command.strip(), output)
    elif kind == "sh":
        for line in text.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s)#\s.*", "", line).strip()
            if command:
                yield Command(re.sub(r"\s+", " ", command))


def files(page: Path) -> dict[str, str]:
    """Return the files that a page shows, by name: Python blocks whose first line is a comment with the name."""
    found = (re.match(r"# (\S+\.py)\n", text) and text for kind, text in blocks(page) if kind == "python")
    return {text.split(None, 2)[1]: text for text in found if text}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures, but for those of other hosts."""
    found = LINK.findall(_without_code(page.read_text()))
    return [target for target in found if "://" not in target and not target.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    names = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return names


def dead_links(page: Path, folder: Path = ROOT) -> list[str]:
    """Return a page's links that lead nowhere, or out of a folder.

    Args:
        page: The page.
        folder: What is published together with it.
    """
    return [target for target in links(page) if not _leads_somewhere(page, target, folder)]


def _leads_somewhere(page: Path, target: str, folder: Path) -> bool:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists() or not file.is_relative_to(folder):
        return False
    return not anchor or (file.suffix == ".md" and anchor in anchors(file))


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
