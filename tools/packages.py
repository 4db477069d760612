"""Draw the packages and their imports for docs/explanation/architecture.md: python -m tools.packages."""

from collections.abc import Mapping
from html import escape

import grimp

from tools import ROOT

PAGE, PICTURE = ROOT / "docs/explanation/architecture.md", ROOT / "docs/pictures/packages.svg"
BEGIN, END = "<!-- packages: written by make docs -->\n", "<!-- end of packages -->"
ROOTS = ("service", "training")
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 148, 34, 26, 38, 16  # of a box, between boxes, around all; in pixels
STYLE = """\
text { font: 14px ui-monospace, SFMono-Regular, Menlo, monospace; fill: #24292f; text-anchor: middle }
rect { fill: #ddf4ff; stroke: #0969da } .training rect { fill: #fff8c5; stroke: #9a6700 }
path { stroke: #6e7781; fill: none }
svg { background: #ffffff }"""

Imports = Mapping[str, frozenset[str]]


def imports() -> Imports:
    """Return for each package, or module without one, those that it imports; a module's name ends with .py."""
    graph = grimp.build_graph(*ROOTS)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        importer = _box(module)
        found.setdefault(importer, set())
        found[importer] |= {_box(other) for other in graph.find_modules_directly_imported_by(module)} - {importer}
    roots = {f"{root}/" for root in ROOTS}
    return {name: frozenset(others - roots) for name, others in sorted(found.items()) if name not in roots}


def _box(module: str) -> str:
    """Return the box that a module is drawn in: service/api, service/settings.py, service/ for the package itself."""
    root, *rest = module.split(".")
    if not rest:
        return f"{root}/"
    is_package = (ROOT / root / rest[0]).is_dir()
    return f"{root}/{rest[0]}" if is_package else f"{root}/{rest[0]}.py"


def levels(found: Imports) -> list[list[str]]:
    """Return the boxes by level, the lowest first: each imports only from levels below its own."""
    level: dict[str, int] = {}

    def level_of(name: str) -> int:
        if name not in level:
            level[name] = 1 + max(map(level_of, found[name]), default=-1)
        return level[name]

    for name in found:
        level_of(name)
    return [sorted(name for name in found if level[name] == number) for number in range(max(level.values()) + 1)]


def direct(found: Imports) -> Imports:
    """Return the imports without those that follow from others: what a picture has to show."""

    def reachable(name: str) -> frozenset[str]:
        return frozenset(found[name].union(*map(reachable, found[name])))

    return {
        name: frozenset(other for other in others if not any(other in reachable(third) for third in others))
        for name, others in found.items()
    }


def picture(found: Imports) -> str:
    """Return the picture of the packages as SVG: boxes in levels, a line from each box to those that it imports."""
    packages = frozenset(name for name in found if not name.endswith(".py"))
    found = {name: found[name] & packages for name in packages if name != "training/models"}
    rows = levels(found)
    width = max(len(row) for row in rows) * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    place = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP_X) + GAP_X) // 2
        for index, name in enumerate(row):
            place[name] = left + index * (WIDTH + GAP_X), height - MARGIN - HEIGHT - number * (HEIGHT + GAP_Y)
    lines = []
    for name, others in sorted(direct(found).items()):
        x, y = place[name][0] + WIDTH // 2, place[name][1] + HEIGHT
        for other in sorted(others):
            to_x, to_y = place[other][0] + WIDTH // 2, place[other][1]
            lines.append(f'<path d="M{x} {y} C{x} {y + GAP_Y} {to_x} {to_y - GAP_Y} {to_x} {to_y}"/>')
    boxes = [
        f'<g class="{name.partition("/")[0]}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        f'<text x="{x + WIDTH // 2}" y="{y + HEIGHT // 2 + 5}">{escape(name.partition("/")[2])}</text></g>'
        for name, (x, y) in place.items()
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *lines, *boxes, "</svg>\n"])


def block(found: Imports) -> str:
    """Return what the page says between its two markers."""
    rows = [
        f"| `{name}` | {', '.join(f'`{other}`' for other in sorted(found[name])) or 'nothing'} |"
        for row in reversed(levels(found))
        for name in row
    ]
    return "\n".join(
        [
            "![The packages in levels: each imports only from levels below its own](../pictures/packages.svg)",
            "",
            "Blue is the service, yellow is training. A line that follows from others is left out. The table has all",
            "imports, also those of single modules.",
            "",
            "| package or module | imports |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def with_block(text: str, found: Imports) -> str:
    """Return the page's text with the block as it should be.

    Raises:
        ValueError: If the page has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} has no lines {BEGIN.strip()} and {END}")
    return f"{before}{BEGIN}{block(found)}{END}{after}"


if __name__ == "__main__":
    found = imports()
    PICTURE.write_text(picture(found))
    PAGE.write_text(with_block(PAGE.read_text(), found))
