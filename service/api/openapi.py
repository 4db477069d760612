"""The OpenAPI 3.1 document of one model, generated from its contract: names, types, ranges and an example."""

import json
from typing import Any

from service import __version__
from service.artifact.contract import PER_CLASS_OUTPUTS, PREDICT, Contract, Feature, Output, answer_member
from service.artifact.reader import Artifact
from service.codec import npy
from service.observability.logging import REQUEST_ID

PROBLEMS = {
    400: "The body is no JSON.",
    406: "The answer cannot be an array: it is not one output of numbers.",
    408: "The request took too long to arrive.",
    413: "The body has too many bytes or rows.",
    415: "The body has another content type, charset or content coding.",
    422: "The body is JSON that breaks the contract; errors names the first cells at fault.",
    503: "The server is busy: send the request again after the seconds in Retry-After.",
}
FEEDBACK_PROBLEMS = {
    **{status: text for status, text in PROBLEMS.items() if status != 406},
    404: "No request that is named is remembered: another pod answered it, or it is too long ago, or there was none.",
    422: "The body is JSON that does not fit the contract, or the request that it names.",
}


def openapi_document(artifact: Artifact, max_rows: int, takes_feedback: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        artifact: The model.
        max_rows: The most rows of one request, from the settings.
        takes_feedback: Whether true values are taken.
    """
    contract = artifact.contract
    example = artifact.example()
    identity = {"name": artifact.name, "version": artifact.version}
    request, answer = (example["request"], {**example["response"], "model": identity}) if example else (None, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": artifact.name,
            "description": artifact.manifest["description"],
            "version": artifact.version,
            "x-service-version": __version__,
        },
        "paths": {
            "/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "Predict for one or more rows.",
                    **_parameters(contract),
                    "requestBody": {
                        "required": True,
                        "content": {
                            **_json({"$ref": "#/components/schemas/Request"}, request),
                            **_array(contract),
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "The predictions, one for each row, in the order of the rows.",
                            "content": {**_json({"$ref": "#/components/schemas/Answer"}, answer), **_array(contract)},
                        },
                        **{str(status): _problem(text) for status, text in PROBLEMS.items()},
                    },
                }
            },
            **({"/feedback": _feedback_path(answer, identity)} if takes_feedback else {}),
            "/healthz": _get("live", "The process answers."),
            "/readyz": _get("ready", "The model is loaded and traffic is welcome.", {"503": _problem("Not ready.")}),
            "/version": _get("version", "The service version, and the model's name, version and digest."),
            "/contract": _get("contract", "The model's name, version and digest, and its contract."),
            "/openapi.json": _get("openapi", "This document."),
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Prometheus metrics.",
                    "responses": {"200": {"description": "All series.", "content": {"text/plain": {}}}},
                }
            },
        },
        "components": {
            "schemas": {
                "Request": _request_schema(contract, max_rows),
                "Answer": _answer_schema(contract),
                **(_feedback_schemas(contract, max_rows) if takes_feedback else {}),
                "Problem": _problem_schema(),
            }
        },
    }


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({} if example is None else {"example": example})}}


def _array(contract: Contract) -> dict[str, Any]:
    """Return the content that rows of nothing but numbers, and answers to them, may have as well."""
    about = "What numpy.save writes: real numbers of shape (rows, features); of an answer, one output of numbers."
    return {npy.MEDIA_TYPE: {"schema": {"description": about}}} if contract.is_numeric else {}


def _parameters(contract: Contract) -> dict[str, Any]:
    if not contract.is_numeric:
        return {}
    outputs = {
        "name": "outputs",
        "in": "query",
        "description": f"For {npy.MEDIA_TYPE}: what to answer, with commas between the names.",
        "schema": {"type": "array", "items": {"enum": [output.name for output in contract.outputs]}},
        "style": "form",
        "explode": False,
    }
    return {"parameters": [outputs]}


def _get(operation: str, summary: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    ok = {"description": summary, "content": _json({"type": "object"})}
    return {"get": {"operationId": operation, "summary": summary, "responses": {"200": ok, **(more or {})}}}


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def _request_schema(contract: Contract, max_rows: int) -> dict[str, Any]:
    cells = [_cell_schema(feature) for feature in contract.features]
    n_features = len(cells)
    row = {"type": "array", "prefixItems": cells, "minItems": n_features, "maxItems": n_features}
    named = {
        "type": "object",
        "properties": dict(zip(contract.names, cells, strict=True)),
        "required": list(contract.names),
        "additionalProperties": False,
    }
    rows = [{"type": "array", "items": items, "minItems": 1, "maxItems": max_rows} for items in (row, named)]
    offered = [output.name for output in contract.outputs]
    return {
        "type": "object",
        "properties": {
            "X": {"description": "Rows as lists in the features' order, or as objects by name.", "oneOf": rows},
            "outputs": {
                "description": f"What to answer; [{json.dumps(offered[0])}] if left out.",
                "type": "array",
                "items": {"enum": offered},
                "minItems": 1,
                "uniqueItems": True,
            },
        },
        "required": ["X"],
        "additionalProperties": False,
    }


def _cell_schema(feature: Feature) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "title": feature.name,
        "type": [feature.kind, "null"] if feature.missing else feature.kind,
    }
    about = [feature.description, f"Unit: {feature.unit}." if feature.unit else ""]
    if feature.minimum is not None:
        about.append(f"From {feature.minimum:.12g} to {feature.maximum:.12g} in training.")
    if feature.categories is not None:
        if feature.closed:
            schema["enum"] = [*feature.categories, *([None] if feature.missing else [])]
        else:
            about.append(f"Known: {', '.join(map(str, feature.categories))}.")
    elif feature.closed:
        about.append("Only values known from training, which are not listed.")
    if feature.magnitude is not None:
        schema.update(minimum=-feature.magnitude, maximum=feature.magnitude)
    if description := " ".join(filter(None, about)):
        schema["description"] = description
    return schema


def _answer_schema(contract: Contract) -> dict[str, Any]:
    members = {answer_member(output.name): _output_schema(output) for output in contract.outputs}
    if contract.classes is not None and any(output.name in PER_CLASS_OUTPUTS for output in contract.outputs):
        members["classes"] = {"const": list(contract.classes), "description": "The order of values for each class."}
    members["model"] = _model_schema()
    return {"type": "object", "properties": members, "required": ["model"]}


def _model_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
        "required": ["name", "version"],
    }


def _output_schema(output: Output) -> dict[str, Any]:
    value: dict[str, Any] = {"type": output.kind}
    if output.columns is not None:
        n_columns = len(output.columns)
        value = {"type": "array", "items": value, "minItems": n_columns, "maxItems": n_columns}
        value["description"] = f"In this order: {', '.join(output.columns)}."
    of = "The predictions" if output.name == PREDICT else f"What {output.name} answers"
    return {"type": "array", "items": value, "description": f"{of}, one for each row."}


def _feedback_path(predicted: dict[str, Any] | None, model: dict[str, str]) -> dict[str, Any]:
    """Return the path for true values; its example is the truth of the one for predictions, had that been right."""
    body = answer = None
    if predicted is not None:
        values = predicted[answer_member(PREDICT)]
        answer = {"accepted": len(values), "repeated": 0, "unknown": 0, "model": model}
        body = {"request_id": "order-17", "y_true": values}
    return {
        "post": {
            "operationId": "feedback",
            "summary": "Tell what was right for rows that were predicted, by the X-Request-ID of their answer.",
            "requestBody": {"required": True, "content": _json({"$ref": "#/components/schemas/Feedback"}, body)},
            "responses": {
                "200": {
                    "description": "How many rows had no truth before, had it already, and are of unknown requests.",
                    "content": _json({"$ref": "#/components/schemas/FeedbackAnswer"}, answer),
                },
                **{str(status): _problem(text) for status, text in FEEDBACK_PROBLEMS.items()},
            },
        }
    }


def _feedback_schemas(contract: Contract, max_rows: int) -> dict[str, Any]:
    value = {"type": "number"} if contract.classes is None else {"enum": list(contract.classes)}
    truth = {
        "type": "object",
        "properties": {
            "request_id": {
                "type": "string",
                "pattern": f"^{REQUEST_ID.pattern}$",
                "description": "The X-Request-ID of an answer.",
            },
            "y_true": {
                "description": "What was right, a value for each row.",
                **{"type": "array", "items": value, "minItems": 1, "maxItems": max_rows},
            },
            "rows": {
                "description": "Which rows these are, the first one is 0; all of them if left out.",
                **{"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
            },
        },
        "required": ["request_id", "y_true"],
        "additionalProperties": False,
    }
    several = {
        "type": "object",
        "properties": {"feedback": {"type": "array", "items": truth, "minItems": 1}},
        "required": ["feedback"],
        "additionalProperties": False,
    }
    counts = ("accepted", "repeated", "unknown")
    answer = {
        "type": "object",
        "properties": {**{name: {"type": "integer"} for name in counts}, "model": _model_schema()},
        "required": [*counts, "model"],
    }
    return {"Feedback": {"oneOf": [truth, several]}, "FeedbackAnswer": answer}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    fault = {"type": "object", "properties": {"pointer": text, "code": text, "detail": text}}
    names = ["type", "title", "detail", "error", "request_id"]
    return {
        "type": "object",
        "description": "RFC 9457 problem details.",
        "properties": {
            **dict.fromkeys(names, text),
            "status": {"type": "integer"},
            "errors": {"type": "array", "items": {**fault, "required": ["pointer", "code", "detail"]}},
        },
        "required": ["type", "title", "status", "detail", "error", "errors"],
    }
