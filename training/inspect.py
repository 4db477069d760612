"""Describes an artifact for people."""

import json
from typing import Any


def describe(manifest: dict[str, Any], verdict: str, max_features: int | None = None) -> str:
    """Return what an artifact says of itself, for people; of its features no more than max_features."""
    features = manifest["contract"]["features"]
    n_left_out = len(features[max_features:]) if max_features else 0
    lines = [
        f"{manifest['name']} {manifest['version']}"
        + (f": {manifest['description']}" if manifest["description"] else ""),
        f"  digest     {manifest['digest']}",
        f"  verified   {verdict}",
        f"  task       {manifest['task']}, {manifest['estimator']}",
        f"  trained    on {manifest['data']['rows']} rows, source commit {manifest['source_commit'] or 'unknown'}",
        "  libraries  " + ", ".join(f"{name} {version}" for name, version in manifest["libraries"].items()),
        f"  features   {len(features)}, given to the estimator as {manifest['contract']['container']}",
        *(f"    {_feature_line(feature)}" for feature in features[:max_features]),
        *([f"    and {n_left_out} more"] if n_left_out else []),
        "  outputs    " + ", ".join(output["name"] for output in manifest["contract"]["outputs"]),
        *([f"  classes    {json.dumps(manifest['contract']['classes'])}"] if "classes" in manifest["contract"] else []),
        *_score_lines(manifest["scores"]),
        *_engine_lines(manifest),
    ]
    return "\n".join(lines) + "\n"


def _feature_line(feature: dict[str, Any]) -> str:
    parts = [f"{feature['name']}: {feature['kind']}"]
    if "minimum" in feature:
        parts.append(f"{feature['minimum']:.6g} to {feature['maximum']:.6g} {feature.get('unit', '')}".strip())
    if "categories" in feature:
        parts.append(f"{'only' if feature.get('closed') else 'known'} {json.dumps(feature['categories'])}")
    elif feature.get("closed"):
        parts.append("only known values, which are not listed")
    if feature.get("missing"):
        parts.append("null allowed")
    return ", ".join(parts)


def _engine_lines(manifest: dict[str, Any]) -> list[str]:
    """Return the table of engines; that of times only where the bake measured them."""
    lines = ["  engines    answers, microseconds of CPU for 1 and 1000 rows"]
    for engine in manifest["engines"]:
        name = engine["name"]
        if "refused" in engine:
            lines.append(f"    {name}: no, {engine['refused']}")
            continue
        answers = "exact" if engine["exact"] else f"within {engine['difference']:.1e}"
        seconds = manifest.get("timings", {}).get(name, {})
        times = [f"{seconds[n_rows] * 1e6:.3g}" if n_rows in seconds else "-" for n_rows in ("1", "1000")]
        serves = (
            [", serves", ", joining requests that wait" * manifest["batching"]] if name == manifest["engine"] else []
        )
        lines.append(f"    {name}: {', '.join([answers, *times])}{''.join(serves)}")
    return lines


def _score_lines(scores: dict[str, Any]) -> list[str]:
    mean, std = (scores["cross_validation"].get(key, {}) for key in ("mean", "std"))
    lines = ["  scores     held out, cross-validated mean and deviation, minimum"] if scores["held_out"] else []
    for name, value in scores["held_out"].items():
        folds = f"{mean[name]:.4g} ± {std[name]:.2g}" if name in mean else "-"
        lines.append(f"    {name}: {value:.4g}, {folds}, {scores['bar'].get(name, '-')}")
    return lines
