"""Settings from the environment; a bad one stops the start."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings, SettingsError, settings_table

NUMBERS = [item for item in fields(Settings) if item.metadata["at_least"] is not None]


def refusal(**variables: str) -> str:
    """Return the message with which these variables are refused."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(variables)
    return str(refused.value)


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set; what others set is not looked at."""
    assert Settings.from_env({"HOME": "/", "PORT": "x"}) == Settings()
    assert Settings.from_env({"BAKEHOUSE_HTTP_PORT": " ", "WEB_CONCURRENCY": ""}) == Settings()


def test_variables_become_settings_of_their_type() -> None:
    """Text becomes a path, a name or a number, without the blanks around it."""
    settings = Settings.from_env(
        {
            "BAKEHOUSE_ARTIFACT": "/srv/model",
            "BAKEHOUSE_HOST": "::1",
            "BAKEHOUSE_HTTP_PORT": " 9000\n",
            "WEB_CONCURRENCY": "4",
            "BAKEHOUSE_DRAIN_SECONDS": "0.5",
        }
    )
    assert settings.artifact == Path("/srv/model")
    assert (settings.host, settings.http_port, settings.workers) == ("::1", 9000, 4)
    assert settings.drain_seconds == 0.5


@pytest.mark.parametrize("item", NUMBERS, ids=lambda item: item.metadata["name"])
def test_each_number_has_bounds_that_are_taken_and_not_exceeded(item: Any) -> None:
    """The least and the greatest value are allowed, the next one on either side is not."""
    name, low, high = (item.metadata[key] for key in ("name", "at_least", "at_most"))
    for value in (low, high):
        assert getattr(Settings.from_env({name: str(value)}), item.name) == value
    for value in (low - 1, high + 1):
        assert f"{name} must be {low} to {high}" in refusal(**{name: str(value)})
    assert low <= item.default <= high


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("BAKEHOUSE_MAX_ROWS", "many", "whole number"),
        ("BAKEHOUSE_MAX_ROWS", "1.5", "whole number"),
        ("BAKEHOUSE_MAX_ROWS", "1e3", "whole number"),
        ("BAKEHOUSE_MAX_ROWS", "9" * 5000, "whole number"),
        ("BAKEHOUSE_DRAIN_SECONDS", "5s", "number"),
    ],
)
def test_what_is_no_number_is_refused(name: str, text: str, kind: str) -> None:
    """The message says what it should be, and does not repeat what it was."""
    message = refusal(**{name: text})
    assert f"{name} must be a {kind};" in message or f"{name} must be a {kind}." in message


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_of_seconds_is_finite(text: str) -> None:
    """Python reads these words as numbers, a server cannot wait for them."""
    assert "BAKEHOUSE_DRAIN_SECONDS must be 0 to 600" in refusal(BAKEHOUSE_DRAIN_SECONDS=text)


def test_a_word_is_one_of_few() -> None:
    """The message names them, and the table too."""
    assert Settings.from_env({"BAKEHOUSE_LOG_LEVEL": "warning"}).log_level == "warning"
    for text in ("WARNING", "debug", "info,error"):
        assert "BAKEHOUSE_LOG_LEVEL must be info, warning or error." in refusal(BAKEHOUSE_LOG_LEVEL=text)
    assert "| info, warning or error |" in settings_table()


def test_all_problems_are_told_at_once() -> None:
    """One start shows everything that has to be mended."""
    message = refusal(
        BAKEHOUSE_TREADS="4", WEB_CONCURRENCY="0", BAKEHOUSE_MAX_ROWS="x", BAKEHOUSE_HEALTH_PORT="8080", BAKEHOUSE_="1"
    )
    assert message == (
        "The settings are wrong: BAKEHOUSE_ is not a setting; BAKEHOUSE_TREADS is not a setting; "
        "WEB_CONCURRENCY must be 1 to 64; BAKEHOUSE_MAX_ROWS must be a whole number; "
        "BAKEHOUSE_HEALTH_PORT must differ from BAKEHOUSE_HTTP_PORT. See python -m service --help."
    )


def test_the_two_ports_must_differ() -> None:
    """Whichever of them was set."""
    assert "must differ" in refusal(BAKEHOUSE_HTTP_PORT="8081")
    assert Settings.from_env({"BAKEHOUSE_HTTP_PORT": "8081", "BAKEHOUSE_HEALTH_PORT": "8080"}).http_port == 8081


@pytest.mark.parametrize(
    "name", ["BAKEHOUSE_PORT", "BAKEHOUSE_PORT_8080_TCP_ADDR", "BAKEHOUSE_SERVICE_HOST", "BAKEHOUSE_SERVICE_PORT_HTTP"]
)
def test_variables_of_a_kubernetes_service_are_explained(name: str) -> None:
    """Kubernetes sets them beside a Service called bakehouse; the message says how to stop that."""
    hint = "(if a Kubernetes Service called bakehouse sets it, set enableServiceLinks: false)"
    assert f"{name} is not a setting {hint}" in refusal(**{name: "tcp://10.0.0.1:8080"})


def test_another_unknown_name_gets_no_such_hint() -> None:
    """A typing error has nothing to do with Kubernetes."""
    assert "Kubernetes" not in refusal(BAKEHOUSE_THREAD="4")


def test_the_table_has_a_row_for_each_setting() -> None:
    """Name, default, unit, bounds and help are told from the same declaration that reads them."""
    header, rule, *rows = settings_table().splitlines()
    assert header.count("|") == rule.count("|") == 6
    assert [row.split("`")[1] for row in rows] == [item.metadata["name"] for item in fields(Settings)]
    assert "| `BAKEHOUSE_MAX_ROWS` | `10000` | rows | 1 to 10000000 | Maximum number of rows in one request. |" in rows
    assert "| `BAKEHOUSE_HOST` | `0.0.0.0` |  |  | Address to listen on. |" in rows
    assert any(row.startswith("| `BAKEHOUSE_TLS_KEY` |  | file |") for row in rows)
    assert any(row.startswith("| `BAKEHOUSE_REDIRECT_TO_HTTPS` | `false` | true or false |") for row in rows)
    assert all(row.count("|") == 6 for row in rows)


def test_a_switch_is_true_or_false() -> None:
    """Other words for it are refused: a typing error must not switch something off."""
    assert Settings.from_env({"BAKEHOUSE_REDIRECT_TO_HTTPS": "true"}).redirect_to_https is True
    assert Settings.from_env({"BAKEHOUSE_REDIRECT_TO_HTTPS": " false"}).redirect_to_https is False
    for text in ("True", "1", "yes", "on"):
        assert "BAKEHOUSE_REDIRECT_TO_HTTPS must be true or false" in refusal(BAKEHOUSE_REDIRECT_TO_HTTPS=text)


@pytest.mark.parametrize("name", ["BAKEHOUSE_TLS_CERTIFICATE", "BAKEHOUSE_TLS_KEY"])
def test_a_certificate_needs_its_key(name: str) -> None:
    """One without the other would silently serve plain HTTP, or nothing."""
    assert "BAKEHOUSE_TLS_CERTIFICATE and BAKEHOUSE_TLS_KEY must be set together" in refusal(**{name: "file.pem"})
