"""The labels of the image that an artifact is baked into."""

from collections.abc import Mapping
from typing import Any


def image_labels(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of the image that an artifact is baked into, in OCI's names where it has one."""
    return {
        "org.opencontainers.image.version": manifest["version"],
        "org.opencontainers.image.revision": manifest["source_commit"],
        "bakehouse.model.name": manifest["name"],
        "bakehouse.model.digest": manifest["digest"],
    }
