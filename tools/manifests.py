"""Render k8s/bakehouse.yaml from the chart, for kubectl without Helm: python -m tools.manifests."""

import yaml

from tools import ROOT
from tools.helm import templates

FOLDER = ROOT / "k8s"
HEADER = "# make manifests renders this file from helm/bakehouse with k8s/values.yaml. Change those.\n"
NAME, NAMESPACE = "house", "bakehouse"


def manifests(values_text: str) -> str:
    """Return all objects that the chart renders from a values file, as one YAML text."""
    rendered = templates(yaml.safe_load(values_text), name=NAME, namespace=NAMESPACE)
    objects = [text.strip() for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    return HEADER + "".join(f"---\n{text.removeprefix('---').strip()}\n" for text in objects if text)


def main() -> None:
    """Write k8s/bakehouse.yaml."""
    (FOLDER / "bakehouse.yaml").write_text(manifests((FOLDER / "values.yaml").read_text()))


if __name__ == "__main__":
    main()
