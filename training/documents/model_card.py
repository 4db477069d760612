"""MODEL_CARD.md: what a person should know before trusting the model."""

from collections.abc import Mapping
from typing import Any

REFITTED = "The scores are of the recipe on held-out rows; the estimator that is served was then fitted on all rows."
FITTED_ELSEWHERE = "The estimator was fitted elsewhere; it may have seen the rows that it was scored on."


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
        f"- License of the data: {data['licence'] or 'not stated'}",
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
    return ["| score | held out | cross-validated | minimum |", "|---|---|---|---|", *rows]
