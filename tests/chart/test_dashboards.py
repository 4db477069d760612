"""The dashboards of the chart keep the rules of dashboard linters, and Grafana and Prometheus can read them."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.cluster import wait_until
from tests.support.objects import rendered
from tests.support.prometheus import RunningPrometheus, prometheus_command
from tests.support.promtool import promtool
from tools.dashboards import FOLDER, texts
from tools.helm import one, templates
from tools.panels import VARIABLE, panels, queries, query

DASHBOARDS = {name.removesuffix(".json"): json.loads(text) for name, text in texts().items()}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# A value for each variable, so that a query is PromQL.
VARIABLES = {
    "datasource": "prometheus", "namespace": "models", "release": "house", "version": "v1|v2", "feature": "area",
    "window": "30d", "le": "0.25", "__rate_interval": "1m", "__range": "3h",
}  # fmt: skip
COUNTER = re.compile(r"\w+_(?:total|count|sum|bucket)\b")
BARE_SERIES = re.compile(r"\b(?:bakehouse[\w:]*|process_\w+|up)(?![\w:{])")
# A counter to show without a rate: the number of processes that a pod started.
SHOWN_RAW = {"bakehouse_processes_started_total"}
# Members that Grafana's data source for Prometheus reads, and that the schema lacks.
ANNOTATION_TEXTS = ("titleFormat", "textFormat")
# Series with the label version. Others are of the process.
OF_VERSION = re.compile(
    r"bakehouse_(?:http_requests_total|http_request_duration_seconds|predicted|prediction|feature|feedback|model_score)"
    r"|bakehouse:(?:feature|prediction|feedback)"
)


@pytest.fixture(params=DASHBOARDS, name="board")
def _board(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return each dashboard."""
    return DASHBOARDS[request.param]


def exprs(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the panels' titles, and their queries with variables."""
    for each in queries(board, {name: f"${name}" for name in VARIABLES}):
        yield each.panel, each.expr


def test_files_are_as_built():
    """The files of the chart are up to date. make docs writes them."""
    assert {file.name: file.read_text() for file in FOLDER.iterdir()} == texts()


def test_grafana_reads_all_of_it(board: dict[str, Any]):
    """The schema reads and writes the same file, so no member is misspelt. mypy checks their types."""
    known = copy.deepcopy(board)
    for annotation in known["annotations"]["list"]:
        for text in ANNOTATION_TEXTS:
            del annotation[text]
    assert json.loads(json.dumps(Dashboard.from_json(known), cls=JSONEncoder)) == known


@pytest.mark.parametrize("name", DASHBOARDS)
def test_addresses_never_change(name: str):
    """Bookmarks and links stay valid. Nobody can edit a dashboard that the next release would overwrite."""
    board = DASHBOARDS[name]
    assert board["uid"] == f"bakehouse-{name}"
    assert board["editable"] is False
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_titles_are_not_shared():
    """Grafana does not provision a folder with two dashboards of one title. Panels are identified by their titles."""
    assert len({board["title"] for board in DASHBOARDS.values()}) == len(DASHBOARDS)
    for board in DASHBOARDS.values():
        titles = [panel["title"] for panel in panels(board)]
        assert len(set(titles)) == len(titles)


def test_each_links_to_the_others(board: dict[str, Any]):
    """The link keeps the release and the time range."""
    (link,) = board["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(board["tags"])


def test_it_refreshes_and_shows_rollouts(board: dict[str, Any]):
    """A dashboard on a wall stays current, and marks the start of each version."""
    assert board["refresh"] in ("30s", "5m")
    (rollouts,) = board["annotations"]["list"]
    assert rollouts["name"] == "Rollouts"
    shown = re.findall(r"{{(\w+)}}", "".join(rollouts[text] for text in ANNOTATION_TEXTS))
    assert shown == ["release", "version"]
    assert "by (release, version)" in rollouts["expr"], "the query keeps the labels that are shown"


def test_variables_choose_the_release(board: dict[str, Any]):
    """Every dashboard has the same variables in the same order. Only versions may be several."""
    listed = board["templating"]["list"]
    assert [variable["name"] for variable in listed][:4] == ["datasource", "namespace", "release", "version"]
    assert (listed[0]["type"], listed[0]["query"]) == ("datasource", "prometheus")
    for variable in listed[1:]:
        assert variable["refresh"] == 2, "on time range change"
        assert variable["datasource"] == DATASOURCE
    assert [variable["name"] for variable in listed if variable["multi"]] == ["version"]


def test_variables_exist_and_are_used(board: dict[str, Any]):
    """A panel uses no other variable, and no variable is unused."""
    known = {variable["name"] for variable in board["templating"]["list"]}
    used = {found[1] or found[2] for found in VARIABLE.finditer(json.dumps(board))}
    assert {name for name in used if not name.startswith("__")} == known


def test_panels_are_described(board: dict[str, Any]):
    """Each has a title, a description, a unit, queries, and the chosen data source."""
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == DATASOURCE
        assert panel["targets"]
        assert "datasource" not in panel["targets"][0], "one for the whole panel"


def test_shares_are_in_percent(board: dict[str, Any]):
    """A panel described as a share has the unit percent: 0.93 may mean anything."""
    for panel in panels(board):
        if panel["description"].startswith(("Share of", "The share of")):
            assert panel["fieldConfig"]["defaults"]["unit"] == "percentunit", panel["title"]


def test_colors_of_burn_rates_hold_for_any_window():
    """The thresholds of the alerts depend on slo.days, which a dashboard of all releases does not know."""
    burns = [panel for panel in panels(DASHBOARDS["slo"]) if panel["title"].startswith("Burn")]
    assert burns
    for panel in burns:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [step["value"] for step in steps] == [None, 1], panel["title"]
        assert "14.4" not in panel["description"] or "where slo.days is 30" in panel["description"]


def test_no_panel_hides_another(board: dict[str, Any]):
    """Each has its own place on the grid, and rows are full."""
    taken = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_curves_have_names(board: dict[str, Any]):
    """Each curve has a legend, with labels that the query keeps."""
    for panel in panels(board):
        for target in panel["targets"]:
            assert target["legendFormat"] or panel["type"] == "table"
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target["expr"]


def test_queries_select_the_chosen_release_only(board: dict[str, Any]):
    """Every selector matches the namespace and the release, and the version if the series has one."""
    for panel, expr in exprs(board):
        assert not BARE_SERIES.search(re.sub(r"{[^}]*}", "{}", expr)), f"{panel}: {expr}"
        for series, matchers in re.findall(r"([\w:]+){([^}]*)}", expr):
            assert 'namespace="$namespace", release="$release"' in matchers, f"{panel}: {expr}"
            # The objectives are those of the release, whatever versions it served.
            by_version = OF_VERSION.match(series) and board["uid"] != "bakehouse-slo"
            assert not by_version or 'version=~"$version"' in matchers, f"{panel}: {expr}"
            assert not {"job", "instance"} & set(re.findall(r"(\w+)=", matchers))


def test_a_variable_of_one_value_is_not_a_pattern(board: dict[str, Any]):
    """Grafana escapes for =~ only variables of several values: (cm) in a feature's name would match nothing."""
    several = {each["name"] for each in board["templating"]["list"] if each["multi"] or each["includeAll"]}
    matchers = re.findall(r'\w+(=~|=)\\"\$(\w+)\\"', json.dumps(board))
    assert matchers
    for operator, name in matchers:
        assert operator == ("=~" if name in several else "="), name


def test_counters_are_never_read_raw(board: dict[str, Any]):
    """Queries use their rate over an interval that fits the scrapes, or their increase over a window."""
    for panel, expr in exprs(board):
        for counter in COUNTER.findall(expr):
            if counter in SHOWN_RAW:
                continue
            within = re.findall(rf"(?:rate|increase)\({counter}\{{[^}}]*\}}\[\$(\w+)\]\)", expr)
            assert len(within) == len(re.findall(rf"{counter}\b", expr)), f"{panel}: {expr}"
            assert set(within) <= {"__rate_interval", "__range", "window"}
        for window in re.findall(r"rate\([^[]*\[([^]]*)\]", expr):
            assert window == "$__rate_interval", f"{panel}: {expr}"


def test_prometheus_can_read_every_query(tmp_path: Path):
    """They are checked as rules, with values for the variables."""
    found = {each for board in DASHBOARDS.values() for each in queries(board, VARIABLES)}
    rules = [{"record": f"query{number}", "expr": each.expr} for number, each in enumerate(sorted(found))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run([promtool(), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


# In the chart ---------------------------------------------------------------------------------------------------------


def installed(of: str = "default", **values: Any) -> list[dict[str, Any]]:
    """Return the ConfigMaps and GrafanaDashboards of a release in a namespace, by values of metrics.dashboards."""
    found = rendered({"metrics": {"dashboards": values}}, namespace=of)
    return [each for each in found if "-dashboard-" in each["metadata"]["name"]]


def test_a_release_has_no_dashboards_by_default():
    """They need a Grafana that reads ConfigMaps."""
    assert installed() == []


def test_config_maps_hold_the_files_as_they_are():
    """Helm leaves Grafana's braces. A file has one name in all releases, so the sidecar keeps it once."""
    found = installed(enabled=True)
    files = {file: text for each in found for file, text in each["data"].items()}
    assert files == {f"bakehouse-{name}": text for name, text in texts().items()}
    assert all("{{" in text for text in files.values())
    assert sorted(each["metadata"]["name"] for each in found) == [
        f"house-bakehouse-dashboard-{name}" for name in sorted(DASHBOARDS)
    ]
    # https://kubernetes.io/docs/concepts/configuration/configmap/: 1 MiB, and kubectl apply keeps a second copy.
    assert max(len(text.encode()) for text in files.values()) < 2**18


def test_the_sidecar_finds_them():
    """The label, the folder and the namespace are values."""
    for each in installed(enabled=True):
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert "annotations" not in each["metadata"]
    for each in installed(enabled=True, labels={"shown": "yes"}, annotations={"folder": "Models"}, namespace="grafana"):
        assert each["metadata"]["labels"]["shown"] == "yes"
        assert each["metadata"]["annotations"] == {"folder": "Models"}
        assert each["metadata"]["namespace"] == "grafana"


def test_releases_of_one_name_share_the_namespace_of_the_sidecar():
    """Helm refuses a release with an object that exists, and Kubernetes a name of more than 253 characters."""
    namespaces = ["red", "blue", "n" * 63]
    names = [each["metadata"]["name"] for of in namespaces for each in installed(of, enabled=True, namespace="grafana")]
    assert len(set(names)) == len(names) == len(namespaces) * len(DASHBOARDS)
    # A namespace has no dot, so that no release of another one can be called the same.
    assert {name.partition(".")[0] for name in names} == set(namespaces)
    assert max(len(name) for name in names) < 253 - 50, "the release's name has at most 50 of them"


def test_the_grafana_operator_finds_them():
    """Each object refers to a file of an existing ConfigMap, in its own namespace."""
    selector = {"matchLabels": {"dashboards": "grafana"}}
    own = {"enabled": True, "instanceSelector": selector, "resyncPeriod": "10m", "folder": "Models: 1"}
    found = installed(enabled=True, namespace="grafana", grafanaDashboard=own)
    dashboards = [each for each in found if each["kind"] == "GrafanaDashboard"]
    assert len(dashboards) == len(DASHBOARDS)
    for each in dashboards:
        spec, reference = each["spec"], each["spec"]["configMapRef"]
        config_map = one(found, "ConfigMap", reference["name"])
        assert reference["key"] in config_map["data"]
        assert config_map["metadata"]["namespace"] == each["metadata"]["namespace"] == "grafana"
        assert (spec["instanceSelector"], spec["resyncPeriod"], spec["folder"]) == (selector, "10m", "Models: 1")
        assert spec["allowCrossNamespaceImport"] is True


# Without an operator --------------------------------------------------------------------------------------------------


def test_a_plain_prometheus_reads_what_the_guide_gives_it(tmp_path: Path):
    """The rules are the lines after "spec:" of the chart's object."""
    guide = (FOLDER.parents[2] / "docs/how-to/monitoring.md").read_text()
    assert "-s templates/prometheusrule.yaml" in guide
    assert "| sed '1,/^spec:/d'" in guide
    values = {"image": {"tag": "v1"}, "metrics": {"monitor": {"kind": "PodMonitor"}, "rules": {"enabled": True}}}
    rules = templates(values)["templates/prometheusrule.yaml"].partition("\nspec:\n")[2]
    (tmp_path / "house.rules.yaml").write_text(rules)
    (scrapes,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", guide, re.DOTALL)
    file = tmp_path / "prometheus.yaml"
    file.write_text(f"rule_files: [house.rules.yaml]\n{scrapes}")
    checked = subprocess.run([promtool(), "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"SUCCESS: [1-9]\d* rules found", checked.stdout), checked.stdout


# Pictures -------------------------------------------------------------------------------------------------------------


def test_pictures_of_an_unknown_release_are_refused(tmp_path: Path):
    """The message lists the known releases, and no picture is written."""
    info = {
        "record": "bakehouse_model_info",
        "expr": "vector(1)",
        "labels": {"namespace": "models", "release": "house"},
    }
    group = {"name": "stand-in", "rules": [info]}
    prometheus = RunningPrometheus(prometheus_command(), tmp_path, [], [group])
    try:
        prometheus.wait_until_ready()
        wait_until("a release is known", lambda: query(prometheus.url, "bakehouse_model_info"), pause=0.1)
        command = [sys.executable, "-m", "tools.pictures", prometheus.url, "--namespace", "models", "--release", "shed"]
        output = tmp_path / "pictures"
        drawn = subprocess.run(
            [*command, "--output", str(output)], cwd=FOLDER.parents[2], capture_output=True, text=True, check=False
        )
    finally:
        prometheus.stop()
    assert drawn.returncode == 1
    assert drawn.stderr.count("\n") == 1, drawn.stderr
    assert "variable release has only the values ['house']" in drawn.stderr
    assert not output.exists()
