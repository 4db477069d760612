"""What an artifact says beside its model: reference bins for drift, a card for people, a bill for scanners."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.contract import PREDICT, Contract, Feature
from training.categories import MAX_CATEGORIES, may_be_listed

N_BINS = 10
REFITTED = "The scores are of the recipe on held-out rows; the estimator that is served was then fitted on all rows."
FITTED_ELSEWHERE = "The estimator was fitted elsewhere; it may have seen the rows that it was scored on."


def data_digest(frame: pd.DataFrame, y: Any) -> str:
    """Return the SHA-256 of features and target, with names, types and order."""
    digest = hashlib.sha256()
    for name in frame:
        digest.update(f"{name}\0{frame[name].dtype}\0".encode())
        digest.update(pd.util.hash_pandas_object(frame[name], index=False).to_numpy().tobytes())
    if y is not None:
        digest.update(pd.util.hash_array(np.asarray(y).ravel()).tobytes())
    return digest.hexdigest()


def reference_bins(contract: Contract, frame: pd.DataFrame, answers: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return how each feature and the predictions are distributed in training: what drift is measured against."""
    features = {feature.name: _feature_distribution(frame[feature.name], feature) for feature in contract.features}
    predictions = {}
    if PREDICT in answers and answers[PREDICT].ndim == 1:
        values = pd.Series(answers[PREDICT])
        continuous = values.dtype.kind == "f" and contract.classes is None
        predictions[PREDICT] = _between_deciles(values) if continuous else _by_value(values, MAX_CATEGORIES)
    return {"n_samples": len(frame), "features": features, "predictions": predictions}


def _feature_distribution(values: "pd.Series[Any]", feature: Feature) -> dict[str, Any]:
    """Return counts between deciles, or counts of values; values that may not be listed are counted together."""
    if feature.is_unlisted:
        return _by_value(values, 0)
    if feature.kind != "number" or feature.categories is not None or _are_few(values):
        return _by_value(values, MAX_CATEGORIES)
    return _between_deciles(values)


def _are_few(values: "pd.Series[Any]") -> bool:
    """Return whether numbers are flags, counts or codes, of which a bin between deciles would hold several."""
    return 0 < values.nunique() <= N_BINS and may_be_listed(values)


def _between_deciles(values: "pd.Series[Any]") -> dict[str, Any]:
    """Return counts between deciles; missing values apart."""
    present = values.dropna().to_numpy(dtype=float)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, N_BINS + 1))) if len(present) else np.array([])
    counts = np.histogram(present, edges)[0].tolist() if len(edges) > 1 else [len(present)]
    return {"edges": edges.tolist(), "counts": counts, "missing": len(values) - len(present)}


def _by_value(values: "pd.Series[Any]", n_most: int) -> dict[str, Any]:
    """Return counts of the most frequent values, and of all others together; missing values apart."""
    present = values.dropna()
    counted = ((_plain(value), int(count)) for value, count in present.value_counts().items())
    ordered = sorted(counted, key=lambda item: (-item[1], str(item[0])))
    return {
        "values": [value for value, _ in ordered[:n_most]],
        "counts": [count for _, count in ordered[:n_most]],
        "other": sum(count for _, count in ordered[n_most:]),
        "missing": len(values) - len(present),
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def image_labels(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of the image that an artifact is baked into, in OCI's names where it has one."""
    return {
        "org.opencontainers.image.version": manifest["version"],
        "org.opencontainers.image.revision": manifest["source_commit"],
        "bakehouse.model.name": manifest["name"],
        "bakehouse.model.digest": manifest["digest"],
    }


def model_card(manifest: Mapping[str, Any]) -> str:
    """Return the card: what a person should know before trusting the model."""
    contract, scores, data = manifest["contract"], manifest["scores"], manifest["data"]
    lines = [
        f"# {manifest['name']}",
        "",
        manifest["description"] or "No description was given.",
        "",
        f"- Estimator: {manifest['estimator']}",
        f"- Task: {manifest['task']}",
        f"- Data: {data['rows']} rows. {data['source'] or 'The source was not stated.'}",
        f"- Licence of the data: {data['licence'] or 'not stated'}",
        f"- Data digest: `{data['digest']}`",
        f"- Source commit: {manifest['source_commit'] or 'unknown'}",
        "",
        "## Features",
        "",
        "| name | type | missing | seen in training | meaning |",
        "|---|---|---|---|---|",
        *(_feature_row(feature) for feature in contract["features"]),
        "",
        "## Scores",
        "",
        "By scikit-learn's names; greater is better.",
        "",
        *_score_table(scores),
        "",
        "## Limits",
        "",
        "Answers for rows unlike those seen in training are extrapolation.",
        REFITTED if scores["refitted"] else FITTED_ELSEWHERE,
        "",
    ]
    return "\n".join(lines)


def _feature_row(feature: Mapping[str, Any]) -> str:
    if "minimum" in feature:
        seen = f"{feature['minimum']:.6g} to {feature['maximum']:.6g} {feature.get('unit', '')}".strip()
    else:
        known = "known values only, which are not listed" if feature.get("closed") else ""
        seen = ", ".join(map(str, feature["categories"])) if "categories" in feature else known
    missing = "yes" if feature.get("missing") else "no"
    return f"| {feature['name']} | {feature['kind']} | {missing} | {seen} | {feature.get('description', '')} |"


def _score_table(scores: Mapping[str, Any]) -> list[str]:
    if not scores["held_out"]:
        return ["None: there was no target to score with."]
    mean, std = (scores["cross_validation"].get(key, {}) for key in ("mean", "std"))
    rows = []
    for name, value in scores["held_out"].items():
        folds = f"{mean[name]:.4g} ± {std[name]:.2g}" if name in mean else ""
        rows.append(f"| {name} | {value:.4g} | {folds} | {scores['bar'].get(name, '')} |")
    return ["| score | held out | cross-validated | bar |", "|---|---|---|---|", *rows]


def bill_of_materials(manifest: Mapping[str, Any], model_sha256: str) -> dict[str, Any]:
    """Return a CycloneDX 1.6 machine-learning bill of materials.

    Written as plain data, because cyclonedx-python-lib has no model cards; a test validates it with CycloneDX's schema.
    """
    scores = manifest["scores"]["held_out"]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": manifest["name"],
        "version": manifest["version"] or model_sha256[:12],
        "description": manifest["description"],
        "hashes": [{"alg": "SHA-256", "content": model_sha256}],
        "modelCard": {
            "modelParameters": {
                "task": manifest["task"],
                "architectureFamily": "scikit-learn",
                "modelArchitecture": manifest["estimator"],
                "datasets": [
                    {
                        "type": "dataset",
                        "name": f"training data of {manifest['name']}",
                        "description": manifest["data"]["source"],
                    }
                ],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [{"type": name, "value": f"{value:.6g}"} for name, value in scores.items()]
            },
        },
    }
    libraries = [
        {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
        for name, version in manifest["libraries"].items()
        for purl in [f"pkg:pypi/{name}@{version}"]
        if name != "python"
    ]
    metadata: dict[str, Any] = {"component": model}
    if manifest["created"]:
        metadata["timestamp"] = manifest["created"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(manifest, sort_keys=True))}",
        "version": 1,
        "metadata": metadata,
        "components": libraries,
        "dependencies": [{"ref": "model", "dependsOn": [library["bom-ref"] for library in libraries]}],
    }
