"""README, documentation and chart README: links lead somewhere, names exist, and tables are those of the code."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documents import CHART_README, DOCS, PAGES, PAPERS, blocks, commands, dead_links
from tools import ROOT
from tools.bench.report import lines
from tools.chart_page import PAGE as CHART_PAGE
from tools.chart_page import page as chart_page
from tools.settings import PAGE as SETTINGS_PAGE
from tools.settings import with_table

README = ROOT / "README.md"
API, METRICS, COMMANDS = (DOCS / f"reference/{name}.md" for name in ("api", "metrics", "commands"))
RESULTS = json.loads((DOCS / "explanation/performance.json").read_text())
SITE = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
MAX_README_LINES = 150


def relative(path: Path) -> str:
    """Return a path as it is shown in test ids."""
    return str(path.relative_to(ROOT))


# Links ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAPERS, ids=relative)
def test_links_of_the_papers_lead_somewhere(page: Path) -> None:
    """At files of the repository, and at headings that are there."""
    assert dead_links(page) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=relative)
def test_links_of_the_documentation_stay_in_it(page: Path) -> None:
    """The website holds docs/ and nothing else."""
    assert dead_links(page, DOCS) == []


def test_links_of_the_chart_stay_in_its_package() -> None:
    """A chart from a registry has no repository around it."""
    assert dead_links(CHART_README, CHART_README.parent) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    """Files and headings that are not there, and files elsewhere; code and other hosts are not looked at."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.md").write_text("# Here\n")
    page = tmp_path / "inside/page.md"
    page.write_text(
        "# A `page`, [linked](page.md)\n\n"
        "[a](#a-page-linked) [b](#none) [c](none.md) [d](page.md#none) [e](../outside.md)\n"
        "[f](https://example.com/#x) `[g](none)`\n\n```text\n# None\n[h](none)\n```\n"
    )
    assert dead_links(page, tmp_path / "inside") == ["#none", "none.md", "page.md#none", "../outside.md"]
    assert dead_links(page, tmp_path) == ["#none", "none.md", "page.md#none"]


# The website ----------------------------------------------------------------------------------------------------------


def entries(nav: Any) -> Iterator[str]:
    """Return the pages that a navigation names."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else entries(value)


def test_the_navigation_has_every_page_once() -> None:
    """So that no page is an orphan, and none is missing."""
    assert Counter(entries(SITE["nav"])) == Counter(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_folder_holds_documents_only() -> None:
    """Code has its homes elsewhere."""
    kinds = {path.suffix for path in DOCS.rglob("*") if path.is_file()}
    assert kinds <= {".md", ".svg", ".json", ".css"}


class Loads(HTMLParser):
    """Collects what a page of the website makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note scripts, pictures and style sheets."""
        found = dict(attrs)
        self.urls += [found[name] or "" for name in ("src", "srcset") if name in found]
        if tag == "link":
            self.urls.append(found.get("href") or "")


def test_the_website_builds_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    """Strictly: without one warning."""
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [Path(sys.executable).parent / "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert loads.urls
        assert [url for url in loads.urls if "//" in url] == []


# What is written from the code ----------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_code() -> None:
    """Make docs would change nothing."""
    assert with_table(SETTINGS_PAGE.read_text()) == SETTINGS_PAGE.read_text()


def test_the_values_are_those_of_the_chart() -> None:
    """Make docs would change nothing."""
    assert CHART_PAGE.read_text() == chart_page((CHART_README.parent / "values.yaml").read_text())


@pytest.fixture
def helped(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that gives what a command prints about itself."""

    def run(module: str, *arguments: str) -> str:
        with pytest.raises(SystemExit):
            importlib.import_module(f"{module}.__main__").main([*arguments, "--help"])
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    "command",
    [("service", name) for name in ("check", "smoke", "drain", "healthcheck")]
    + [("training", name) for name in ("bake", "inspect")],
    ids=" ".join,
)
def test_every_option_is_on_the_page_of_commands(helped: Callable[..., str], command: tuple[str, str]) -> None:
    """By its name in the table."""
    options = set(re.findall(r"--[a-z-]+", helped(*command))) - {"--help"}
    assert [
        option for option in sorted(options) if not re.search(rf"^\| `{option}\b", COMMANDS.read_text(), re.M)
    ] == []


def test_every_exit_code_is_on_the_page_of_commands(helped: Callable[..., str]) -> None:
    """Those that the service prints about itself."""
    codes = re.findall(r"^ {2}(\d+) ", helped("service").partition("Exit codes")[2], re.MULTILINE)
    service = COMMANDS.read_text().partition("## Training")[0]
    assert len(codes) >= 7
    assert re.findall(r"^\| (\d+) \|", service, re.MULTILINE) == codes


def test_every_error_code_is_on_the_page_of_the_api() -> None:
    """The page of metrics, which is written from the code, names them all."""
    [row] = [line for line in METRICS.read_text().splitlines() if "`bakehouse_prediction_errors_total`" in line]
    codes = set(re.findall(r"`(\w+)`", row.partition("`code`: ")[2]))
    first_cells = [line.split("|")[1] for line in API.read_text().splitlines() if line.startswith("| `")]
    assert len(codes) > 20
    assert codes - set(re.findall(r"`(\w+)`", " ".join(first_cells))) == set()


# Names on the pages ---------------------------------------------------------------------------------------------------


def words(page: Path, pattern: str) -> set[str]:
    """Return all matches of a pattern on a page, with its code."""
    return set(re.findall(pattern, page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_settings_that_a_page_names_exist(page: Path) -> None:
    """Under these names."""
    known = set(re.findall(r"^\| `(\w+)`", SETTINGS_PAGE.read_text(), re.MULTILINE))
    assert words(page, r"\bBAKEHOUSE_[A-Z_]*[A-Z]\b") - known == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=relative)
def test_the_metrics_that_a_page_names_exist(page: Path) -> None:
    """Under these names, with the endings of a histogram."""
    known = set(re.findall(r"^\| `(\w+)`", METRICS.read_text(), re.MULTILINE))
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in words(page, r"\bbakehouse_[a-z_]*[a-z]\b")}
    assert {name for name in named if not any(one == name or one.startswith(f"{name}_") for one in known)} == set()


# Attributes of traces, which look like values of the chart, and files that users put there.
ATTRIBUTES = {"service.name", "service.version"}
OF_USERS = {"deploy/compose/.env", "deploy/compose/certificates"}
VALUES = yaml.safe_load((CHART_README.parent / "values.yaml").read_text())


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_chart_values_that_a_page_names_exist(page: Path) -> None:
    """In code, by their names with dots; of maps that users fill, only the map."""
    groups = "|".join(name for name, value in VALUES.items() if isinstance(value, dict))
    in_code = words(page, rf"`((?:{groups})(?:\.[a-zA-Z]+)+)\b")
    in_commands = words(page, rf"--set(?:-json)? ((?:{groups})[\w.]*)=")
    named = {name for name in in_code | in_commands if not name.endswith(".yaml")}
    assert {name for name in named - ATTRIBUTES if not exists(name)} == set()


def exists(name: str) -> bool:
    """Say whether values.yaml has a value."""
    value = VALUES
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=relative)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    """In code, by their paths in the repository."""
    folders = "deploy|docs|helm|k8s|requirements|tests|tools|training/models|training/data|\\.github"
    named = {name for name in words(page, rf"`((?:{folders})/[\w./-]*\w)/?`") if "*" not in name}
    assert {name for name in named - OF_USERS if not (ROOT / name).exists()} == set()


# The README -----------------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    """What does not fit has a page of its own."""
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_the_readme_leads_to_both_entries_first() -> None:
    """A data scientist and a platform engineer find theirs right below the picture."""
    text = README.read_text()
    before = text[: text.index("\n## ")]
    assert "](#get-a-prediction)" in before
    assert "](#deploy-on-kubernetes)" in before
    assert before.count("\n") <= 10
    assert "helm install" in " ".join(command.text for command in commands(README))


def test_the_numbers_of_the_readme_are_those_of_the_bench() -> None:
    """Rounded, of the machine that wrote docs/explanation/performance.md."""
    single = [line for line in lines(RESULTS) if line.unit == "units" and line.target == 1.3]
    drift = [line.ours for line in lines(RESULTS) if "counting for drift" in line.case]
    ours, textbook = [line.ours for line in single], [line.textbook for line in single]
    assert len(single) == 4
    text = README.read_text()
    assert f"{min(ours):.2f} to {max(ours):.2f} times" in text
    assert f"{min(textbook):.2g} to {max(textbook):.2g} times" in text
    assert f"At most {max(drift) + 0.05:.1f} %" in text


def test_every_block_has_a_kind_that_can_be_shown() -> None:
    """Of those that readers can be shown in color, or plain text."""
    kinds = {kind for page in PAGES for kind, _ in blocks(page)}
    assert kinds <= {"console", "json", "promql", "python", "sh", "text", "yaml"}
