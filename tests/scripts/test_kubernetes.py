"""kubernetes/: the manifests are what their kinds allow, and serve the same as cluster.gpu.yaml.

No cluster and no network here: the schemas below are the parts of KubeRay's and Kubernetes' that the files
use, closed, so that a misspelt or misplaced key fails.
"""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from scripts import kubernetes

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "kubernetes"


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    """The schema of an object with these keys only."""
    keys = {name.replace("__", "."): schema for name, schema in properties.items()}
    return {
        "type": "object",
        "properties": keys,
        "required": required.split(),
        "additionalProperties": False,
    }


TEXT: dict[str, Any] = {"type": "string"}
WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
FLAG: dict[str, Any] = {"type": "boolean"}
PORT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 65535}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}


def listed(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


METADATA = closed("name", name=TEXT, labels=TEXTS)
SECRET_KEY = closed("secretKeyRef", secretKeyRef=closed("name key", name=TEXT, key=TEXT))
VARIABLE = closed("name", name=TEXT, value=TEXT, valueFrom=SECRET_KEY)
PROBE = closed(
    "httpGet",
    httpGet=closed("path port", path=TEXT, port=PORT),
    initialDelaySeconds=WHOLE,
    periodSeconds=WHOLE,
    failureThreshold=WHOLE,
)
CONTAINER = closed(
    "name image resources",
    name=TEXT,
    image=TEXT,
    env=listed(VARIABLE),
    ports=listed(closed("containerPort", containerPort=PORT, name={"type": "string", "maxLength": 15})),
    resources=closed("limits requests", limits=TEXTS, requests=TEXTS),
    livenessProbe=PROBE,
    readinessProbe=PROBE,
    volumeMounts=listed(closed("name mountPath", name=TEXT, mountPath=TEXT, readOnly=FLAG)),
)
VOLUME = closed(
    "name",
    name=TEXT,
    secret=closed("secretName", secretName=TEXT, items=listed(closed("key path", key=TEXT, path=TEXT))),
    persistentVolumeClaim=closed("claimName", claimName=TEXT),
    emptyDir=closed(medium={"const": "Memory"}, sizeLimit=TEXT),
)
POD = closed(
    "spec",
    metadata=closed(labels=TEXTS),
    spec=closed(
        "containers",
        securityContext=closed(fsGroup=WHOLE),
        terminationGracePeriodSeconds=WHOLE,
        containers=listed(CONTAINER),
        volumes=listed(VOLUME),
    ),
)
REDIS = closed("redisAddress", redisAddress=TEXT, redisPassword=closed(valueFrom=SECRET_KEY))
WORKERS = closed(
    "groupName template rayStartParams",
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    rayStartParams=TEXTS,
    template=POD,
)
CLUSTER = closed(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=closed("mode", mode={"enum": ["token", "disabled"]}),
    gcsFaultToleranceOptions=REDIS,
    headGroupSpec=closed("rayStartParams template", rayStartParams=TEXTS, template=POD),
    workerGroupSpecs=listed(WORKERS),
)
SELECTOR = closed("matchLabels", matchLabels=TEXTS)
PEER = closed(podSelector=SELECTOR, namespaceSelector=SELECTOR)
RULE = {"from": listed(PEER), "ports": listed(closed("port", protocol={"const": "TCP"}, port=PORT))}
KINDS = {
    "RayService": closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind=TEXT,
        metadata=METADATA,
        spec=closed(
            "serveConfigV2 rayClusterConfig",
            upgradeStrategy=closed("type", type={"enum": ["NewCluster", "None"]}),
            serveConfigV2=TEXT,
            rayClusterConfig=CLUSTER,
        ),
    ),
    "NetworkPolicy": closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": "networking.k8s.io/v1"},
        kind=TEXT,
        metadata=METADATA,
        spec=closed(
            "podSelector policyTypes",
            podSelector=SELECTOR,
            policyTypes=listed({"enum": ["Ingress", "Egress"]}),
            ingress=listed({"type": "object", "properties": RULE, "additionalProperties": False}),
        ),
    ),
    "Secret": closed(
        "apiVersion kind metadata",
        apiVersion={"const": "v1"},
        kind=TEXT,
        metadata=METADATA,
        stringData=TEXTS,
    ),
    "Kustomization": closed(
        "apiVersion kind resources",
        apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
        kind=TEXT,
        resources=listed(TEXT),
        images=listed(closed("name", name=TEXT, newName=TEXT, newTag=TEXT)),
        patches={"type": "array"},
    ),
}


@pytest.fixture(autouse=True)
def _in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def patched(option: str) -> dict[str, Any]:
    """The RayService with an option's JSON patch, of which only `add` is used."""
    service: dict[str, Any] = read("rayservice.yaml")
    for step in read(f"options/{option}.yaml"):
        assert step.keys() == {"op", "path", "value"}
        assert step["op"] == "add"
        *parents, last = step["path"].strip("/").split("/")
        place: Any = service
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if last == "-":
            place.append(step["value"])
        else:
            place[last] = step["value"]
    return service


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_a_manifest_has_only_what_its_kind_has(name: str) -> None:
    document = read(name)
    jsonschema.validate(document, KINDS[document["kind"]])


@pytest.mark.parametrize("option", sorted(path.stem for path in (FOLDER / "options").glob("*.yaml")))
def test_an_option_leaves_a_valid_rayservice(option: str) -> None:
    service = patched(option)
    assert service != read("rayservice.yaml")
    jsonschema.validate(service, KINDS["RayService"])


def test_a_misspelt_key_is_found() -> None:
    service = read("rayservice.yaml")
    service["spec"]["rayClusterConfig"]["headGroupSpecs"] = {}
    with pytest.raises(jsonschema.ValidationError, match="headGroupSpecs"):
        jsonschema.validate(service, KINDS["RayService"])


def test_the_manifest_serves_cluster_gpu_yaml_and_serve_takes_it() -> None:
    assert kubernetes.MANIFEST.read_text() == kubernetes.manifest()
    served = yaml.safe_load(read("rayservice.yaml")["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(served)
    written = yaml.safe_load((ROOT / "cluster.gpu.yaml").read_text())
    assert served["http_options"].pop("host") == "0.0.0.0"
    assert written["http_options"].pop("host") == "127.0.0.1"
    assert served == written


def test_names_that_the_files_refer_to_exist() -> None:
    secret = read("secret.example.yaml")
    text = "".join(path.read_text() for path in FOLDER.rglob("*.yaml"))
    keys = set(re.findall(r"secretKeyRef: \{name: fastserve, key: ([\w-]+)\}", text))
    assert keys == {"api-key", "store-url", "redis-password"}
    assert keys <= secret["stringData"].keys()
    kustomization = (FOLDER / "kustomization.yaml").read_text()
    for path in re.findall(r"[\w./-]+\.yaml", kustomization):
        assert (ROOT / path).is_file() or (FOLDER / path).is_file(), path


def test_pods_read_their_secrets_themselves_and_mount_what_they_name() -> None:
    cluster = read("rayservice.yaml")["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            key = next(entry for entry in container["env"] if entry["name"] == "FASTSERVE_API_KEY")
            assert "value" not in key
    assert "API_KEY" not in read("rayservice.yaml")["spec"]["serveConfigV2"]


def test_the_policy_covers_every_pod_and_opens_no_port_to_everybody() -> None:
    policy = read("network-policy.yaml")["spec"]
    cluster = read("rayservice.yaml")["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        labels = group["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert all(rule.get("from") for rule in policy["ingress"])


def test_the_image_installs_from_files_that_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "scripts"}
    assert needed | {"serve_app", "deployments", "policies", "models", "suites"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert 'RUN bash scripts/image.sh "$TARGET"' in dockerfile
    assert all(
        f"py311-{kind}" in dockerfile for kind in ("cpu", "cu")
    )  # the GPU target changes base and extra only
    assert dockerfile.count("FROM ") == 1
