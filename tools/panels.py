"""Sends the queries of a Grafana dashboard to a Prometheus and returns the results."""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# label_values(metric{matchers}, label): the only kind of query in the variables of these dashboards.
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Query(NamedTuple):
    """A query of a dashboard.

    Args:
        panel: The title of its panel, or the kind and name of a variable or annotation.
        expr: PromQL with the values of the variables.
        legend: The name of its series, which may contain {{label}}.
        instant: Whether it is a query for the current value only.
        may_be_empty: Why the result may be empty. "" if it must not be empty.
    """

    panel: str
    expr: str
    legend: str
    instant: bool
    may_be_empty: str


class Answer(NamedTuple):
    """The result of a query: series with "metric", and "value" or "values" (pairs of time in seconds and text)."""

    query: Query
    series: list[dict[str, Any]]


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without its rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Return a text in which variables ($name or ${name}) are replaced by their values.

    Raises:
        KeyError: If a variable has no value.
    """
    return VARIABLE.sub(lambda match: variables[match[1] or match[2]], text)


def queries(dashboard: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Query]:
    """Yield the queries of all panels and annotations. variables must include Grafana's built-in variables."""
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
    """A Prometheus, and the time range of a dashboard.

    Args:
        url: The address of Prometheus.
        seconds: The length of the time range.
        end: The end of the time range as a Unix time. The default is now.
        rate_interval: The value of $__rate_interval, at least two scrape intervals.
    """

    def __init__(self, url: str, seconds: int, *, end: float | None = None, rate_interval: str = "1m") -> None:
        self._url = url.rstrip("/")
        self.seconds = seconds
        self.end = time.time() if end is None else end
        self.step = max(1, seconds // 120)
        self._built_in = {
            "datasource": "prometheus",
            "__rate_interval": rate_interval,
            "__range": f"{seconds}s",
            "__interval": f"{self.step}s",
        }

    def variables(self, dashboard: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, str]:
        """Return the values of a dashboard's variables: the chosen ones, otherwise Grafana's initial ones.

        Raises:
            AssertionError: If a variable has no values, or the chosen value is not one of them.
        """
        values = dict(self._built_in)
        for variable in dashboard["templating"]["list"]:
            name = variable["name"]
            if name == "datasource":
                continue
            label_query = LABEL_VALUES.fullmatch(filled(variable["query"], values))
            assert label_query, f"variable {name} has the unsupported query {variable['query']}"
            options = self._get(
                f"label/{label_query['label']}/values",
                {"match[]": label_query["series"], "start": self.end - self.seconds, "end": self.end},
            )
            assert options, f"variable {name} has no values: {label_query[0]}"
            assert chosen.get(name, options[0]) in options, f"variable {name} has only the values {options}"
            values[name] = chosen.get(name, variable.get("allValue", options[0]))
        return values

    def answers(self, dashboard: Mapping[str, Any], chosen: Mapping[str, str]) -> list[Answer]:
        """Return the results of all queries of a dashboard, in its order. See variables() for chosen.

        Raises:
            AssertionError: If Prometheus refuses a query, or a variable has no value.
        """
        return [Answer(query, self.ask(query)) for query in queries(dashboard, self.variables(dashboard, chosen))]

    def ask(self, query: Query) -> list[dict[str, Any]]:
        """Return the series that a query returns, without NaN values."""
        if query.instant:
            result = self._get("query", {"query": query.expr, "time": self.end})["result"]
        else:
            times = {"start": self.end - self.seconds, "end": self.end, "step": self.step}
            result = self._get("query_range", {"query": query.expr, **times})["result"]
        for series in result:
            if "values" in series:
                series["values"] = [value for value in series["values"] if value[1] != "NaN"]
        return [series for series in result if series.get("values") or series.get("value", ("", "NaN"))[1] != "NaN"]

    def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        return _get(f"{self._url}/api/v1/{path}", parameters)


def query(url: str, expr: str) -> list[dict[str, Any]]:
    """Return the series of an instant query at the current time.

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
