"""Draws the packages and their imports for docs/explanation/architecture.md: python -m tools.packages."""

from collections.abc import Mapping
from html import escape

import grimp

from tools import ROOT
from tools.markers import replaced

PAGE, PICTURE = ROOT / "docs/explanation/architecture.md", ROOT / "docs/pictures/packages.svg"
BEGIN, END = "<!-- packages: written by make docs -->\n", "<!-- end of packages -->"
ROOTS = ("service", "training")
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 148, 34, 26, 38, 16  # pixels: of a box, between boxes, around the picture
STYLE = """\
text { font: 14px ui-monospace, SFMono-Regular, Menlo, monospace; fill: #24292f; text-anchor: middle }
rect { fill: #ddf4ff; stroke: #0969da } .training rect { fill: #fff8c5; stroke: #9a6700 }
path { stroke: #6e7781; fill: none }
svg { background: #ffffff }"""

Imports = Mapping[str, frozenset[str]]


def imports() -> Imports:
    """Return the imports of each package. A module outside of a package counts as one, and its name ends with .py."""
    graph = grimp.build_graph(*ROOTS)
    imported: dict[str, set[str]] = {}
    for module in graph.modules:
        importer = _box(module)
        imported.setdefault(importer, set())
        imported[importer] |= {_box(other) for other in graph.find_modules_directly_imported_by(module)} - {importer}
    roots = {f"{root}/" for root in ROOTS}
    return {name: frozenset(others - roots) for name, others in sorted(imported.items()) if name not in roots}


def _box(module: str) -> str:
    """Return the box of a module in the picture: service/api, service/settings.py, or service/ for the root package."""
    root, *rest = module.split(".")
    if not rest:
        return f"{root}/"
    is_package = (ROOT / root / rest[0]).is_dir()
    return f"{root}/{rest[0]}" if is_package else f"{root}/{rest[0]}.py"


def levels(graph: Imports) -> list[list[str]]:
    """Return the boxes by level, the lowest level first. Each box imports only from lower levels."""
    level: dict[str, int] = {}

    def level_of(name: str) -> int:
        if name not in level:
            level[name] = 1 + max(map(level_of, graph[name]), default=-1)
        return level[name]

    for name in graph:
        level_of(name)
    return [sorted(name for name in graph if level[name] == number) for number in range(max(level.values()) + 1)]


def direct(graph: Imports) -> Imports:
    """Return the imports without those that follow from other imports. The picture shows only these."""

    def reachable(name: str) -> frozenset[str]:
        return frozenset(graph[name].union(*map(reachable, graph[name])))

    return {
        name: frozenset(other for other in others if not any(other in reachable(third) for third in others))
        for name, others in graph.items()
    }


def picture(graph: Imports) -> str:
    """Return the picture of the packages as SVG: boxes in levels, with a line from each box to each of its imports."""
    packages = frozenset(name for name in graph if not name.endswith(".py"))
    graph = {name: graph[name] & packages for name in packages if name != "training/models"}
    rows = levels(graph)
    width = max(len(row) for row in rows) * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    place = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP_X) + GAP_X) // 2
        for index, name in enumerate(row):
            place[name] = left + index * (WIDTH + GAP_X), height - MARGIN - HEIGHT - number * (HEIGHT + GAP_Y)
    lines = []
    for name, others in sorted(direct(graph).items()):
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


def block(graph: Imports) -> str:
    """Return the text between the two markers of the page."""
    rows = [
        f"| `{name}` | {', '.join(f'`{other}`' for other in sorted(graph[name])) or 'nothing'} |"
        for row in reversed(levels(graph))
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


def with_block(text: str, graph: Imports) -> str:
    """Return the text of the page with the current block.

    Raises:
        ValueError: If the page has no markers for the block.
    """
    return replaced(text, BEGIN, END, block(graph))


if __name__ == "__main__":
    graph = imports()
    PICTURE.write_text(picture(graph))
    PAGE.write_text(with_block(PAGE.read_text(), graph))
