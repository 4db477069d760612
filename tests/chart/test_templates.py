"""The templates as text: line lengths, and the paths that their comments name."""

import re

from tools.helm import CHART

MAX_LINE = 160
TEMPLATES = {file.relative_to(CHART): file.read_text() for file in (CHART / "templates").rglob("*") if file.is_file()}
PATH = re.compile(r"\b(?:docs|tests|helm|k8s|service|templates|rules|validation)/[\w./-]*\w")


def test_no_line_of_a_template_is_too_long():
    """Long lines hide in reviews. Fold sentences, and give parts of a query a name."""
    lengths = {
        f"{path}:{number}": len(line)
        for path, text in TEMPLATES.items()
        for number, line in enumerate(text.splitlines(), start=1)
    }
    assert len(lengths) > 1000
    assert {line: length for line, length in lengths.items() if length > MAX_LINE} == {}


def test_paths_in_comments_exist():
    """A path is relative to the repository or to the chart's templates."""
    comments = {path: " ".join(re.findall(r"{{-?\s*/\*(.*?)\*/", text, re.DOTALL)) for path, text in TEMPLATES.items()}
    named = {(path, name) for path, comment in comments.items() for name in PATH.findall(comment)}
    assert "docs/runbooks" in {name for _, name in named}
    roots = (CHART.parents[1], CHART / "templates", CHART)
    assert [(str(path), name) for path, name in named if not any((root / name).exists() for root in roots)] == []
