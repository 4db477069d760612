"""Texts and identifiers of the training data stay in the artifact, and columns of them are served as any others."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from service.api.openapi import openapi_document
from service.artifact.reader import Artifact, verify
from tests.support.baking import bake_whole_way
from tests.support.server import RunningServer
from tools.local_http import predict, send
from training.__main__ import main
from training.bake import bake
from training.inspect import describe
from training.sources.source import Source

N_ROWS = 240
ROWS = np.arange(N_ROWS)
DOCTORS = sorted(f"Dr. Secret {number}" for number in range(60))
PEOPLE = pd.DataFrame(
    {
        "text": [f"person {row}@mail.example wrote spam" for row in ROWS],  # any text is taken
        "doctor": [DOCTORS[row % 60] for row in ROWS],  # other text is refused
        "account": 7_310_111 + 101 * (ROWS % 60),  # other numbers are refused
        "street": pd.Categorical([f"Hidden Lane {row % 30}" for row in ROWS]),  # pandas' own categories
        "customer": 90_000_007 + 7919 * ROWS,  # a number as any other
        "plan": np.where(ROWS % 3, "basic", "plus"),  # a category, which may be listed
    }
)
LABELS = (ROWS % 3 == 0) ^ (ROWS % 7 == 0)
ACCOUNTS = [str(number) for number in PEOPLE["account"].unique()]
SECRETS = ["mail.example", "wrote", "Dr. Secret", "Hidden Lane", *ACCOUNTS]


@dataclass(frozen=True)
class Baked:
    """An artifact, its estimator, and what the bake and inspect printed."""

    artifact: Artifact
    estimator: Any
    printed: str


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Baked:
    """Return a model of columns of every kind."""
    columns = make_column_transformer(
        (TfidfVectorizer(), "text"),
        (OneHotEncoder(categories=[DOCTORS]), ["doctor"]),  # of which the estimator's parameters tell
        (OrdinalEncoder(), ["account"]),
        (OneHotEncoder(handle_unknown="ignore"), ["street", "plan"]),
        (StandardScaler(), ["customer"]),
    )
    estimator = make_pipeline(columns, LogisticRegression()).fit(PEOPLE, LABELS)
    output = tmp_path_factory.mktemp("private") / "people"
    printed: list[str] = []
    source = Source("people", "here.py", PEOPLE, LABELS, estimator, fitted=True)
    bake(lambda: source, output, "", 0, "", printed.append)
    artifact = verify(output)
    return Baked(artifact, estimator, "\n".join([*printed, describe(dict(artifact.manifest), "")]))


def test_no_text_of_the_training_data_is_published(
    baked: Baked, serve: Callable[..., RunningServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by the server, its refusals and its log, nor in what the bake prints and writes for people."""
    directory = baked.artifact.directory
    server = serve(directory)
    rows = json.loads(PEOPLE.head(40).to_json(orient="values"))
    assert predict(server.port, {"X": rows}).status == 200
    unknown = [[*rows[0][:1], "Dr. New", 1, *rows[0][3:]]]
    published = {
        "refusal": predict(server.port, {"X": unknown}).body.decode(),
        **{path: send(server.health_port, "GET", path).body.decode() for path in ("/metrics", "/contract", "/version")},
        "/openapi.json": send(server.port, "GET", "/openapi.json").body.decode(),
        "log": server.output + server.errors,
        "bake": baked.printed,
    }
    for name in ("manifest.json", "reference.json", "MODEL_CARD.md", "bom.cdx.json"):
        published[name] = (directory / name).read_text()
    for option in ([], ["--json"], ["--labels"]):
        assert main(["inspect", str(directory), *option]) == 0
        published[f"inspect {option}"] = capsys.readouterr().out
    found = {name: secret for name, text in published.items() for secret in SECRETS if secret in text}
    assert found == {}
    assert "basic" in published["/contract"]
    assert 'bin="plus"' in published["/metrics"]


def test_golden_requests_hold_nothing_of_the_training_but_what_is_refused_otherwise(baked: Baked) -> None:
    """Made-up text and numbers; of a closed column some of the known values, which never leave the artifact."""
    cells = [cell for exchange in baked.artifact.golden() for row in exchange["request"]["X"] for cell in row]
    texts = " ".join(map(str, cells))
    assert "mail.example" not in texts
    assert "Hidden Lane" not in texts
    assert "Dr. Secret" in texts
    assert not set(PEOPLE["customer"]) & set(cells)


def test_the_example_is_answered_and_made_up(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    """What the document shows can be sent; where the column is closed there is nothing to show."""
    open_columns = make_column_transformer(
        (TfidfVectorizer(), "text"),
        (OneHotEncoder(handle_unknown="ignore"), ["doctor", "street", "plan"]),
        (StandardScaler(), ["customer"]),
    )
    artifact = bake_whole_way(tmp_path / "open", PEOPLE, LABELS, make_pipeline(open_columns, LogisticRegression()))
    server = serve(artifact.directory)
    document = send(server.port, "GET", "/openapi.json")
    content = document.json["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert predict(server.port, content["example"]).status == 200
    text, doctor, _account, street, customer, plan = content["example"]["X"][0]
    assert not {text, doctor, street, customer} & set(PEOPLE[["text", "doctor", "street", "customer"]].to_numpy().flat)
    assert plan in ("basic", "plus")
    assert not any(secret in document.body.decode() for secret in ("mail.example", "Dr. Secret", "Hidden Lane"))


def test_a_closed_column_leaves_the_document_without_an_example(baked: Baked) -> None:
    """Nothing but a known value would be answered; the document is valid without one."""
    document = openapi_document(baked.artifact, 100, takes_feedback=True)
    assert "example" not in document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert "example" not in document["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"]
    assert list(OpenAPIV31SpecValidator(json.loads(json.dumps(document))).iter_errors()) == []


def test_closed_columns_take_what_they_know(baked: Baked, serve: Callable[..., RunningServer]) -> None:
    """The estimator's answers for every known value, and 422 for any other one."""
    server = serve(baked.artifact.directory)
    rows = json.loads(PEOPLE.to_json(orient="values"))
    answer = predict(server.port, {"X": rows, "outputs": ["predict", "predict_proba"]})
    assert answer.status == 200
    assert answer.json["y_pred"] == baked.estimator.predict(PEOPLE).tolist()
    assert np.allclose(answer.json["predict_proba"], baked.estimator.predict_proba(PEOPLE))
    for place, value in ((1, "Dr. New"), (1, ""), (2, 7_310_112), (2, -1)):
        refused = predict(server.port, {"X": [[*rows[0][:place], value, *rows[0][place + 1 :]]]})
        assert refused.status == 422
        (fault,) = refused.json["errors"]
        assert (fault["pointer"], fault["code"]) == (f"/X/0/{place}", "unknown_category")
        assert fault["detail"].endswith(" must be one of the 60 known values, which are not listed")
    new_street = [[*rows[0][:3], "New Lane", *rows[0][4:]]]
    assert predict(server.port, {"X": new_street}).status == 200


def test_rows_of_unlisted_columns_are_counted_as_known_or_not(
    baked: Baked, serve: Callable[..., RunningServer]
) -> None:
    """Drift shows how many rows have a value that training had not, as far as that is known."""
    server = serve(baked.artifact.directory)
    row = json.loads(PEOPLE.head(1).to_json(orient="values"))[0]
    assert predict(server.port, {"X": [row, [*row[:3], "New Lane", *row[4:]]]}).status == 200
    lines = send(server.health_port, "GET", "/metrics").body.decode().splitlines()
    counted = {
        (feature, kind): float(line.rpartition(" ")[2])
        for line in lines
        for feature in ("text", "doctor", "account", "street")
        for kind in ("other", "unknown", "inside")
        if line.startswith("bakehouse_feature_rows_total{")
        and f'feature="{feature}"' in line
        and f'kind="{kind}"' in line
    }
    assert counted == {
        **{(feature, "other"): 2.0 for feature in ("text", "doctor", "account")},
        **{(feature, "unknown"): 0.0 for feature in ("text", "doctor", "account")},
        ("street", "other"): 1.0,
        ("street", "unknown"): 1.0,
    }
