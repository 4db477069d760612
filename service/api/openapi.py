"""Generates the OpenAPI 3.1 document of one model from its contract: names, types, ranges and an example."""

import json
from typing import Any

from service import __version__
from service.artifact.contract import PER_CLASS_OUTPUTS, PREDICT, Contract, Feature, Output, answer_member
from service.artifact.reader import Artifact
from service.codec import npy
from service.observability.logging import REQUEST_ID

PROBLEMS = {
    400: "The body is not valid JSON.",
    406: "The response cannot be an array, because it is not a single output of numbers.",
    408: "The request took too long to arrive.",
    413: "The body has too many bytes or rows.",
    415: "The service does not support the content type, charset or content coding of the body.",
    422: "The body is JSON, but it violates the contract. errors lists the first invalid cells.",
    503: "The server is busy. Send the request again after the seconds in Retry-After.",
}
FEEDBACK_PROBLEMS = {
    **{status: text for status, text in PROBLEMS.items() if status != 406},
    404: "No such request is remembered here: another pod answered it, it is too old, or it is unknown.",
    422: "The body is JSON, but it violates the contract or does not match its request.",
}


def openapi_document(artifact: Artifact, max_rows: int, takes_feedback: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        artifact: The artifact of the model.
        max_rows: The most rows of one request, from the settings.
        takes_feedback: Whether the service accepts true values.
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
                            "description": "The predictions, one per row, in the order of the rows.",
                            "content": {**_json({"$ref": "#/components/schemas/Answer"}, answer), **_array(contract)},
                        },
                        **{str(status): _problem(text) for status, text in PROBLEMS.items()},
                    },
                }
            },
            **({"/feedback": _feedback_path(answer, identity)} if takes_feedback else {}),
            "/healthz": _get("live", "The process answers."),
            "/readyz": _get("ready", "The model is loaded. Send requests.", {"503": _problem("Not ready.")}),
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
    """Return the content type for arrays, if all features are numbers: it is for requests and for responses."""
    description = (
        "A file of numpy.save. A request holds real numbers of shape (rows, features). "
        "A response holds one output of numbers."
    )
    return {npy.MEDIA_TYPE: {"schema": {"description": description}}} if contract.is_numeric else {}


def _parameters(contract: Contract) -> dict[str, Any]:
    if not contract.is_numeric:
        return {}
    outputs = {
        "name": "outputs",
        "in": "query",
        "description": f"For {npy.MEDIA_TYPE}: the names of the outputs to return, separated by commas.",
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
    outputs = [output.name for output in contract.outputs]
    return {
        "type": "object",
        "properties": {
            "X": {"description": "Rows as lists in the order of the features, or as objects by name.", "oneOf": rows},
            "outputs": {
                "description": f"The outputs to return. Default: [{json.dumps(outputs[0])}].",
                "type": "array",
                "items": {"enum": outputs},
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
    sentences = [feature.description, f"Unit: {feature.unit}." if feature.unit else ""]
    if feature.minimum is not None:
        sentences.append(f"From {feature.minimum:.12g} to {feature.maximum:.12g} in training.")
    if feature.categories is not None:
        if feature.closed:
            schema["enum"] = [*feature.categories, *([None] if feature.missing else [])]
        else:
            sentences.append(f"Known: {', '.join(map(str, feature.categories))}.")
    elif feature.closed:
        sentences.append("Only values from training, which are not listed here.")
    if feature.magnitude is not None:
        schema.update(minimum=-feature.magnitude, maximum=feature.magnitude)
    if description := " ".join(filter(None, sentences)):
        schema["description"] = description
    return schema


def _answer_schema(contract: Contract) -> dict[str, Any]:
    members = {answer_member(output.name): _output_schema(output) for output in contract.outputs}
    if contract.classes is not None and any(output.name in PER_CLASS_OUTPUTS for output in contract.outputs):
        members["classes"] = {"const": list(contract.classes), "description": "The order of the per-class values."}
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
    subject = "The predictions" if output.name == PREDICT else f"The results of {output.name}"
    return {"type": "array", "items": value, "description": f"{subject}, one per row."}


def _feedback_path(predicted: dict[str, Any] | None, model: dict[str, str]) -> dict[str, Any]:
    """Return the path for true values. Its example uses the predictions of the /predict example as true values."""
    body = answer = None
    if predicted is not None:
        values = predicted[answer_member(PREDICT)]
        answer = {"accepted": len(values), "repeated": 0, "unknown": 0, "model": model}
        body = {"request_id": "order-17", "y_true": values}
    return {
        "post": {
            "operationId": "feedback",
            "summary": "Send the true values of predicted rows, with the X-Request-ID of their response.",
            "requestBody": {"required": True, "content": _json({"$ref": "#/components/schemas/Feedback"}, body)},
            "responses": {
                "200": {
                    "description": "How many rows were accepted, were repeated, and belong to unknown requests.",
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
                "description": "The X-Request-ID of a response.",
            },
            "y_true": {
                "description": "The true values, one per row.",
                **{"type": "array", "items": value, "minItems": 1, "maxItems": max_rows},
            },
            "rows": {
                "description": "The row numbers of these values. The first row is 0. Default: all rows.",
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
