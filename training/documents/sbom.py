"""bom.cdx.json: a CycloneDX bill of materials, for scanners."""

import json
import uuid
from collections.abc import Mapping
from typing import Any


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
