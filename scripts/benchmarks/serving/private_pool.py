"""Parts of pools that benchmarks start for themselves: the endpoint before simulated models, on own ports."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from deployments.keys.file import write_secret
from serve_app.console.local_pool import LocalPool

Document = dict[str, Any]


@contextmanager
def own_ports() -> Iterator[None]:
    """Ports of Serve's own that nobody else uses now; a bench beside another pool must not meet it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        low = 20_000 + probe.getsockname()[1] % 5_000
    kinds = {"HTTP": low, "GRPC": low + 500}
    for kind, first in kinds.items():
        os.environ.setdefault(f"RAY_SERVE_DIRECT_INGRESS_MIN_{kind}_PORT", str(first))
        os.environ.setdefault(f"RAY_SERVE_DIRECT_INGRESS_MAX_{kind}_PORT", str(first + 400))
    yield


@contextmanager
def started(
    whole: Document, keys: Sequence[Mapping[str, Any]] = (), variables: Mapping[str, str] | None = None
) -> Iterator[LocalPool]:
    """A pool that runs `whole`, with store, home and ports of its own, which go with it.

    `keys` are the entries of its key file; without any it takes the key in `variables`.
    """
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as name, own_ports():
        folder = Path(name)
        (folder / "cluster.yaml").write_text(yaml.safe_dump(whole))
        if keys:
            write_secret(folder / "keys.yaml", yaml.safe_dump({"keys": list(keys)}))
            os.environ.pop("FASTSERVE_API_KEY", None)  # it would stand in for the file
        environment = {
            "FASTSERVE_HOME": name,
            "FASTSERVE_STORE": f"sqlite:///{folder}/store.sqlite3",
            **(variables or {}),
        }
        with LocalPool(folder / "cluster.yaml", environment) as pool:
            pool.wait_with_bar()
            yield pool


def simulated_model(name: str, simulated: Mapping[str, Any], replicas: int = 1) -> Document:
    """A Serve app of one simulated model."""
    args = {"id": name, "engine": "simulated", "num_cpus": 0.1, "simulated": dict(simulated)}
    return {
        "name": f"model-{name}",
        "route_prefix": None,
        "import_path": "serve_app.app:build_model",
        "args": args,
        "deployments": [{"name": "Model", "num_replicas": replicas, "user_config": {}}],
    }


def document(models: Sequence[Document], ingresses: int = 2, companions: bool = False) -> Document:
    """cluster.yaml with these models on a free port; `companions`: with evaluator and learner."""
    whole: Document = yaml.safe_load(Path("cluster.yaml").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        whole["http_options"]["port"] = probe.getsockname()[1]
    ingress = next(app for app in whole["applications"] if app["name"] == "fastserve")
    ingress["args"] |= {"evaluator": companions, "learner": companions}
    if not companions:
        ingress["deployments"] = [d for d in ingress["deployments"] if d["name"] == "Ingress"]
    next(d for d in ingress["deployments"] if d["name"] == "Ingress")["num_replicas"] = ingresses
    whole["applications"] = [ingress, *models]
    return whole


def usage_rows() -> list[dict[str, Any]]:
    """What `fastserve usage` says of the running cluster."""
    import ray

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "serve_app", "usage", "--json", "--address", address]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows
