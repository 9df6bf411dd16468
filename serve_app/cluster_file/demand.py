"""What the replicas of a config file need at least, against what a cluster has."""

from collections.abc import Mapping
from typing import Any

from deployments.model.config import ModelConfig
from serve_app.cluster_file.applications import BUILDERS, ENDPOINT, MODEL, App
from serve_app.config import IngressConfig


def demand(apps: list[App]) -> dict[str, float]:
    """CPUs and GPUs of the smallest number of replicas; `apps` are valid."""
    needed = {"CPU": 0.0, "GPU": 0.0}
    for app in apps:
        for resource, count in _needs(app).items():
            needed[resource] += count
    return needed


def _needs(app: App) -> dict[str, float]:
    if app.builder == MODEL:
        config = ModelConfig.model_validate(app.args)
        replicas = _replicas(app, "Model")
        return {"CPU": config.num_cpus * replicas, "GPU": config.num_gpus * replicas}
    if app.builder == ENDPOINT:
        args = IngressConfig.model_validate(app.args)
        return {"CPU": args.num_cpus * _replicas(app, "Ingress")}
    return {"CPU": float(app.args.get("num_cpus", 0.1))} if app.builder in BUILDERS else {}


def _replicas(app: App, deployment: str) -> float:
    """The smallest number of replicas that the file asks for; 1 where it says nothing."""
    for _, entry in app.deployments():
        if entry.get("name") == deployment:
            scaling = entry.get("autoscaling_config") or {}
            return float(scaling.get("min_replicas", 1)) if scaling else float(entry.get("num_replicas") or 1)
    return 1.0


def shortages(needed: Mapping[str, float], there: Mapping[str, Any]) -> list[str]:
    """Sentences about what is needed and is not there."""
    return [
        f"The file needs {count:g} {resource}s and the cluster has {float(there.get(resource, 0.0)):g}: "
        "replicas would wait for ever. Lower num_replicas, min_replicas or num_gpus, or add a node."
        for resource, count in needed.items()
        if count > float(there.get(resource, 0.0)) + 1e-6
    ]
