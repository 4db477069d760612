"""What Grafana asks Prometheus for the panels of a dashboard, and what a real Prometheus answers."""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# label_values(metric{matchers}, label): the only kind of query that a variable has here.
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Query(NamedTuple):
    """A query of a dashboard.

    Args:
        panel: The title of its panel, or the kind and name of a variable or annotation.
        expr: PromQL, the variables filled in.
        legend: What its series are called, with {{label}} in it.
        instant: Whether only the value of now is asked for.
        may_be_empty: Why there may be no answer; "" if there must be one.
    """

    panel: str
    expr: str
    legend: str
    instant: bool
    may_be_empty: str


class Answer(NamedTuple):
    """What Prometheus said to a query: series with "metric" and "value" or "values" (times in seconds, text)."""

    query: Query
    series: list[dict[str, Any]]


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard without its rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with the values of its variables, $name or ${name}.

    Raises:
        KeyError: If a variable has no value.
    """
    return VARIABLE.sub(lambda found: variables[found[1] or found[2]], text)


def queries(dashboard: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Query]:
    """Yield the queries of all panels and annotations; variables have values, those of Grafana's own among them."""
    for panel in panels(dashboard):
        empty = panel["fieldConfig"]["defaults"].get("noValue", "")
        for target in panel["targets"]:
            yield Query(
                filled(panel["title"], variables),
                filled(target["expr"], variables),
                target["legendFormat"],
                target["instant"],
                empty,
            )
    for annotation in dashboard["annotations"]["list"]:
        yield Query(f"annotation {annotation['name']}", filled(annotation["expr"], variables), "", False, "no rollout")


class Prometheus:
    """A Prometheus and the time that a dashboard shows.

    Args:
        url: Its address.
        seconds: How long a time is shown.
        end: Its end, as a Unix time; now if left out.
        rate_interval: What $__rate_interval is: at least two scrapes long.
    """

    def __init__(self, url: str, seconds: int, *, end: float | None = None, rate_interval: str = "1m") -> None:
        self._url = url.rstrip("/")
        self.seconds = seconds
        self.end = time.time() if end is None else end
        self.step = max(1, seconds // 120)
        self._own = {
            "datasource": "prometheus",
            "__rate_interval": rate_interval,
            "__range": f"{seconds}s",
            "__interval": f"{self.step}s",
        }

    def variables(self, dashboard: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
        """Return the values of a dashboard's variables: as chosen, else as Grafana would begin with.

        Raises:
            AssertionError: If a variable has no value to choose, or the chosen one is not among them.
        """
        values = dict(self._own)
        for variable in dashboard["templating"]["list"]:
            name = variable["name"]
            if name == "datasource":
                continue
            found = LABEL_VALUES.fullmatch(filled(variable["query"], values))
            assert found, f"variable {name} asks {variable['query']}"
            given = self._get(
                f"label/{found['label']}/values",
                {"match[]": found["series"], "start": self.end - self.seconds, "end": self.end},
            )
            assert given, f"variable {name} has no values: {found[0]}"
            assert chosen.get(name, given[0]) in given, f"variable {name} has only the values {given}"
            values[name] = chosen.get(name, variable.get("allValue", given[0]))
        return values

    def answers(self, dashboard: Mapping[str, Any], chosen: Mapping[str, str]) -> list[Answer]:
        """Return the answers to all queries of a dashboard, in its order; see variables() for what is chosen.

        Raises:
            AssertionError: If Prometheus refuses a query, or a variable has no value.
        """
        return [Answer(query, self.ask(query)) for query in queries(dashboard, self.variables(dashboard, chosen))]

    def ask(self, query: Query) -> list[dict[str, Any]]:
        """Return the series that answer a query, without values that are no number."""
        if query.instant:
            found = self._get("query", {"query": query.expr, "time": self.end})["result"]
        else:
            times = {"start": self.end - self.seconds, "end": self.end, "step": self.step}
            found = self._get("query_range", {"query": query.expr, **times})["result"]
        for series in found:
            if "values" in series:
                series["values"] = [value for value in series["values"] if value[1] != "NaN"]
        return [series for series in found if series.get("values") or series.get("value", ("", "NaN"))[1] != "NaN"]

    def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        return _get(f"{self._url}/api/v1/{path}", parameters)


def query(url: str, expr: str) -> list[dict[str, Any]]:
    """Return the series of an instant query now.

    Raises:
        AssertionError: If Prometheus refuses it.
    """
    return _get(f"{url.rstrip('/')}/api/v1/query", {"query": expr})["result"]  # type: ignore[no-any-return]


def _get(url: str, parameters: Mapping[str, Any]) -> Any:
    try:
        with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}") as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{parameters}: {error.read().decode()}") from error
