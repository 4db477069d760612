"""The helpers of the chart tests find mistakes in a chart of a few lines."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.chart.schemas.update import json_schema
from tests.support.kubernetes import CUSTOM_RESOURCES, problems
from tests.support.objects import GATEWAY
from tests.support.values import value_problems
from tools.chart import Value, chart_values, values_tables, with_descriptions, with_tables
from tools.helm import lint, notes, objects, one, refusal, render

VALUES = """\
# -- How many pods serve.
replicas: 2
# -- The image.
image:
  # -- Where the image comes from;
  # without a tag.
  repository: registry.example/toy
  # -- The tag.
  tag: "1.0"
# -- Passed on to the container as it is.
resources:
  limits: {memory: 64Mi}
"""
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "global": {"type": "object", "additionalProperties": True},
        "replicas": {"type": "integer", "minimum": 1, "description": "How many pods serve."},
        "image": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "repository": {"type": "string", "description": "Where the image comes from; without a tag."},
                "tag": {"$ref": "#/$defs/tag", "description": "The tag."},
            },
        },
        "resources": {
            "type": "object",
            "additionalProperties": True,
            "description": "Passed on to the container as it is.",
        },
    },
    "$defs": {"tag": {"type": "string"}},
}
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  namespace: {{ .Release.Namespace }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: toy}}
  template:
    metadata: {labels: {app: toy}}
    spec:
      containers:
        - name: toy
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
          resources: {{- toYaml .Values.resources | nindent 12 }}
"""
CONFIG = """\
{{- if .Capabilities.APIVersions.Has "example.com/v1" }}
apiVersion: v1
kind: ConfigMap
metadata: {name: example}
---
{{- end }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: facts
data:
  kubernetes: {{ .Capabilities.KubeVersion.Version }}
  upgrade: {{ .Release.IsUpgrade | quote }}
"""
HOOK = """\
apiVersion: v1
kind: Pod
metadata:
  name: asks
  annotations: {helm.sh/hook: test}
spec:
  containers: [{name: asks, image: curl}]
"""
FILES = {
    "Chart.yaml": "apiVersion: v2\nname: toy\nversion: 0.1.0\nkubeVersion: '>=1.34.0-0'\n",
    "values.yaml": VALUES,
    "values.schema.json": json.dumps(SCHEMA),
    "templates/NOTES.txt": "{{ .Release.Name }} is there.",
    "templates/_helpers.tpl": "",
    "templates/config.yaml": CONFIG,
    "templates/deployment.yaml": DEPLOYMENT,
    "templates/tests/asks.yaml": HOOK,
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "toy"},
    "spec": {"containers": [{"name": "toy", "image": "toy"}]},
}


def custom(api_version: str, kind: str, **spec: Any) -> dict[str, Any]:
    """Return a custom resource named toy."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "toy"}, "spec": spec}


ROUTE = custom("gateway.networking.k8s.io/v1", "HTTPRoute", rules=[{"backendRefs": [{"name": "toy", "port": 80}]}])
CUSTOM = [
    ROUTE,
    custom(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        gatewayClassName="toy",
        listeners=[{"name": "https", "port": 443, "protocol": "HTTPS"}],
    ),
    custom(
        "gateway.networking.k8s.io/v1",
        "ListenerSet",
        parentRef={"name": "toy"},
        listeners=[{"name": "https", "port": 443, "protocol": "HTTPS"}],
    ),
    custom(
        "gateway.networking.k8s.io/v1",
        "BackendTLSPolicy",
        targetRefs=[{"group": "", "kind": "Service", "name": "toy"}],
        validation={"hostname": "toy", "wellKnownCACertificates": "System"},
    ),
    custom("monitoring.coreos.com/v1", "ServiceMonitor", selector={}, endpoints=[{"port": "metrics"}]),
    custom("monitoring.coreos.com/v1", "PodMonitor", selector={}, podMetricsEndpoints=[{"port": "metrics"}]),
    custom("grafana.integreatly.org/v1beta1", "GrafanaDashboard", instanceSelector={}, configMapRef={"key": "a.json"}),
    custom(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        groups=[{"name": "toy", "rules": [{"alert": "Toy", "expr": "up == 0", "for": "5m"}]}],
    ),
    custom("cert-manager.io/v1", "Certificate", secretName="toy", issuerRef={"name": "toy"}, dnsNames=["toy"]),
    custom("cert-manager.io/v1", "Issuer", selfSigned={}),
]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Return the folder of the chart."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_chart_is_rendered_with_hooks_and_notes(toy: Path):
    """The objects are in the order of templates, without the notes."""
    found = render({"replicas": 3}, chart=toy, name="mine", namespace="there")
    assert [each["kind"] for each in found] == ["ConfigMap", "Deployment", "Pod"]
    deployment = one(found, "Deployment", "mine")
    assert deployment["metadata"]["namespace"] == "there"
    assert deployment["spec"]["replicas"] == 3
    assert notes(chart=toy, name="mine") == "mine is there."


def test_templates_see_the_cluster_that_the_test_names(toy: Path):
    """Templates read its version, its APIs, and whether it is an upgrade."""
    facts = one(render(chart=toy), "ConfigMap")["data"]
    assert facts == {"kubernetes": "v1.36.0", "upgrade": "false"}
    changed = render(chart=toy, kube_version="1.35.2", is_upgrade=True, api_versions=["example.com/v1"])
    assert one(changed, "ConfigMap", "facts")["data"] == {"kubernetes": "v1.35.2", "upgrade": "true"}
    assert one(changed, "ConfigMap", "example")


def test_no_cluster_is_contacted(toy: Path, monkeypatch: pytest.MonkeyPatch):
    """The user's kubeconfig has no effect."""
    (toy / "kubeconfig").write_text("apiVersion: v1\nkind: Config\nclusters: nonsense\n")
    monkeypatch.setenv("KUBECONFIG", str(toy / "kubeconfig"))
    assert len(render(chart=toy)) == 3


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"replicas": "3"}, {}, "got string, want integer"),
        ({"replica": 3}, {}, "additional properties 'replica' not allowed"),
        ({}, {"kube_version": "1.33.0"}, "incompatible with Kubernetes v1.33.0"),
        ({}, {"name": "My_House"}, "invalid release name"),
    ],
)
def test_a_refusal_has_the_message_of_helm(toy: Path, values: dict[str, Any], options: dict[str, Any], message: str):
    """Helm checks the schema, the version of Kubernetes and the name."""
    assert message in refusal(values, chart=toy, **options)


def test_a_refusal_has_the_message_of_a_template(toy: Path):
    """The template calls fail."""
    (toy / "templates/validate.yaml").write_text('{{ fail "set a or b" }}')
    assert "set a or b" in refusal(chart=toy)


def test_accepted_values_are_not_a_refusal(toy: Path):
    """A test of a refusal fails if Helm accepts the values."""
    with pytest.raises(AssertionError, match="Helm accepts"):
        refusal({"replicas": 3}, chart=toy)


def test_the_linter_finds_a_mistake(toy: Path):
    """The version is invalid. Without the mistake there is no message."""
    assert lint(chart=toy) == []
    (toy / "Chart.yaml").write_text("apiVersion: v2\nname: toy\nversion: one\n")
    assert any("version" in message for message in lint(chart=toy))


@pytest.mark.parametrize("text", ["a: 1\nb:\n  - c: 1\n    c: 2\n", "- a\n", "a: 1\n  b: 2\n"])
def test_invalid_documents_are_refused(text: str):
    """This includes a field that is set twice, of which Helm would take the last."""
    with pytest.raises(ValueError, match=re.escape("here.yaml: ")):
        objects(text, "here.yaml")


def test_yaml_is_read_as_kubernetes_reads_it():
    """A label of digits and an e is a number, and the API server would refuse it."""
    assert objects("a: 12e3\nb: 2026-01-01\n---\n# nothing\n---\nc: on\n") == [
        {"a": 12000, "b": "2026-01-01"},
        {"c": True},
    ]


def test_one_object_must_match():
    """None and several fail, and list the objects."""
    with pytest.raises(AssertionError, match=re.escape("0 of Job  among ['Pod/toy']")):
        one([POD], "Job")
    with pytest.raises(AssertionError, match="2 of Pod"):
        one([POD, POD], "Pod")


@pytest.mark.parametrize("correct", [POD, *CUSTOM], ids=lambda each: each["kind"])
def test_correct_objects_have_no_problems(correct: dict[str, Any]):
    """This holds for every version."""
    assert problems([correct]) == []


def test_every_schema_of_a_custom_resource_is_tested():
    """The test above finds a schema that accepts nothing, the one below a schema that accepts everything."""
    names = {f"{'/{}_'.format(each['kind'].lower()).join(each['apiVersion'].split('/'))}.json" for each in CUSTOM}
    assert {str(file.relative_to(CUSTOM_RESOURCES)) for file in CUSTOM_RESOURCES.glob("*/*.json")} == names


@pytest.mark.parametrize("correct", [POD, *CUSTOM], ids=lambda each: each["kind"])
def test_unknown_fields_are_problems(correct: dict[str, Any]):
    """This holds for the top level, the metadata and the specification."""
    name = f"{correct['kind']}/toy"
    unexpected = "Additional properties are not allowed ('nonsense' was unexpected)"
    for part in ("metadata", "spec"):
        wrong = {**correct, part: {**correct[part], "nonsense": 1}}
        assert f"{name}: {part}: {unexpected} (1.36)" in problems([wrong], versions=["1.36"])
    assert problems([{**correct, "nonsense": 1}]) == [f"{name}: : {unexpected} (1.34, 1.35, 1.36)"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {**POD, "spec": {"containers": [{"image": "toy"}]}},
            "Pod/toy: spec.containers.0: 'name' is a required property",
        ),
        ({**POD, "metadata": {"labels": {"digest": 12000}}}, "Pod/: metadata.labels.digest: 12000 is not of type"),
        ({**POD, "apiVersion": "v2"}, "Pod/toy: no schema of v2 Pod"),
        ({**ROUTE, "apiVersion": "gateway.networking.k8s.io/v1beta1"}, "HTTPRoute/toy: no schema of gateway"),
        ({**ROUTE, "spec": {"hostnames": ["a_b"]}}, "HTTPRoute/toy: spec.hostnames.0: 'a_b' does not match"),
        ({**ROUTE, "metadata": {"labels": {"a": 1}}}, "HTTPRoute/: metadata.labels.a: 1 is not of type"),
        (
            custom("monitoring.coreos.com/v1", "ServiceMonitor", selector={}, endpoints=[{"interval": "often"}]),
            "ServiceMonitor/toy: spec.endpoints.0.interval: 'often' does not match",
        ),
        (custom("cert-manager.io/v1", "Certificate"), "Certificate/toy: spec: 'issuerRef' is a required property"),
    ],
)
def test_wrong_objects_have_problems(wrong: dict[str, Any], message: str):
    """Each problem names the object and the path."""
    assert any(found.startswith(message) for found in problems([wrong])), problems([wrong])


def test_a_newer_kind_is_a_problem_in_older_versions():
    """A problem names the versions that have it."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "toy"},
    }
    name = "MutatingAdmissionPolicy/toy: no schema of admissionregistration.k8s.io/v1 MutatingAdmissionPolicy"
    assert problems([policy]) == [f"{name} (1.34, 1.35)"]


@pytest.mark.parametrize("file", sorted(CUSTOM_RESOURCES.glob("*/*.json")), ids=lambda file: file.stem)
def test_schemas_of_custom_resources_are_schemas(file: Path):
    """Every keyword has a valid value, and Python can match every pattern."""
    Draft202012Validator.check_schema(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("definition", "schema"),
    [
        ({"type": "string", "description": "a", "pattern": "^(?i)a$"}, {"type": "string", "pattern": "(?i)^a$"}),
        ({"x-kubernetes-int-or-string": True}, {"type": ["integer", "string"]}),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "array", "x-kubernetes-list-type": "set"}, {"type": "array", "uniqueItems": True}),
        (
            {"properties": {"description": {"description": "a"}}, "anyOf": [{"properties": {"description": {}}}]},
            {
                "properties": {"description": {}},
                "anyOf": [{"properties": {"description": {}}}],
                "additionalProperties": False,
            },
        ),
        ({"properties": {}, "x-kubernetes-preserve-unknown-fields": True}, {"properties": {}}),
        ({"additionalProperties": {"type": "string"}}, {"additionalProperties": {"type": "string"}}),
    ],
)
def test_definitions_become_schemas(definition: dict[str, Any], schema: dict[str, Any]):
    """Both have the same meaning. Alternatives stay open."""
    assert json_schema(definition) == schema


def test_unknown_keywords_of_definitions_are_refused():
    """A keyword of a later version must not be dropped silently."""
    with pytest.raises(ValueError, match="unknown keyword dependentRequired"):
        json_schema({"properties": {"a": {"dependentRequired": {}}}})


def test_values_are_read_with_their_comments():
    """They are in order. A mapping with a comment is one value, and one with comments inside is a group."""
    assert chart_values(VALUES) == [
        Value("replicas", 2, "How many pods serve."),
        Value("image.repository", "registry.example/toy", "Where the image comes from; without a tag."),
        Value("image.tag", "1.0", "The tag."),
        Value("resources", {"limits": {"memory": "64Mi"}}, "Passed on to the container as it is."),
    ]


def test_the_tables_of_values_are_written_between_the_marks():
    """The text around them stays, and writing them again changes nothing."""
    text = "# -- Either a | b.\nname: ''\n# -- Anywhere.\nnodeSelector: {}\n"
    readme = "Before\n<!-- values: written by make docs -->\nold\n<!-- end of values -->\nafter\n"
    written = with_tables(readme, text)
    assert written == (
        "Before\n<!-- values: written by make docs -->\n"
        "| value | default | description |\n|---|---|---|\n"
        '| `name` | `""` | Either a \\| b. |\n| `nodeSelector` | `{}` | Anywhere. |\n'
        "<!-- end of values -->\nafter\n"
    )
    assert with_tables(written, text) == written
    with pytest.raises(ValueError, match="has no lines"):
        with_tables("Nothing", text)


def test_each_section_of_values_has_its_table():
    """A heading of values.yaml becomes one of the README. Values before the first one have none."""
    text = "# -- A.\na: 1\n\n# Edge and TLS ----\n\n# Not a heading -\ntls:\n  # -- B.\n  b: 2\n# -- C.\nc: 3\n"
    assert [value.section for value in chart_values(text)] == ["", "Edge and TLS", "Edge and TLS"]
    head = "| value | default | description |\n|---|---|---|\n"
    assert values_tables(text) == (
        f"{head}| `a` | `1` | A. |\n\n### Edge and TLS\n\n{head}| `tls.b` | `2` | B. |\n| `c` | `3` | C. |"
    )


def test_equal_values_are_rendered_once():
    """A second rendering would generate another self-signed certificate."""
    values = {"image": {"tag": "v1"}, "gateway": GATEWAY, "tls": {"mode": "selfSigned"}}
    assert one(render(values), "Secret")["data"] == one(render(values), "Secret")["data"]


def test_comments_become_descriptions():
    """Old descriptions are replaced. Values that the schema does not list are skipped. The given schema stays."""
    old = json.loads(json.dumps(SCHEMA).replace("The tag.", "Old."))
    assert with_descriptions(old, VALUES) == SCHEMA
    assert old != SCHEMA
    assert with_descriptions({"type": "object"}, VALUES) == {"type": "object"}


def test_values_that_agree_with_their_schema_have_no_problems():
    """The chart of these tests has such values."""
    assert value_problems(VALUES, SCHEMA) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  # -- The tag.\n", "", "image.tag has no comment in values.yaml"),
        ("  tag:", "  label:", "image.label is not in the schema"),
        ("  tag:", "  label:", "image.tag is in the schema but not in values.yaml"),
    ],
)
def test_values_without_a_description_are_problems(old: str, new: str, problem: str):
    """A value needs a comment and an entry in the schema, and an entry needs a value."""
    assert problem in value_problems(VALUES.replace(old, new), SCHEMA)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            ', "description": "The tag."',
            "",
            "image.tag has another description in the schema than its comment: run make docs",
        ),
        ('"additionalProperties": false', '"additionalProperties": true', "# is not closed in the schema"),
        ('"additionalProperties": true, ', "", "#/properties/resources is not closed in the schema"),
    ],
)
def test_schemas_without_descriptions_or_bounds_are_problems(old: str, new: str, problem: str):
    """Each value needs its description, and each object must name what it accepts."""
    text = json.dumps(SCHEMA)
    assert old in text
    assert problem in value_problems(VALUES, json.loads(text.replace(old, new, 1)))
