"""Deploys a Serve config's models on simulated GPUs, a probe in each replica; writes what each sees.

usage: python gpu_probe.py CONFIG GPUS REPLICAS RESULT    in its own process: a process joins one cluster
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve

from deployments.model.config import ModelConfig, deployment_options


class Probe:
    """Stands where Model would: same resources, no engine."""

    def __call__(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "gpu_ids": [int(gpu) for gpu in ray.get_gpu_ids()],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "in_group": ray.util.get_current_placement_group() is not None,
        }


def model_configs(path: Path) -> list[ModelConfig]:
    """The model configs of a Serve config file."""
    applications = yaml.safe_load(path.read_text())["applications"]
    return [
        ModelConfig.model_validate(application["args"])
        for application in applications
        if application["import_path"] == "serve_app.app:build_model"
    ]


def seen(handle: Any, replicas: int) -> list[dict[str, Any]]:
    """What each of so many replicas answers."""
    answers: dict[int, dict[str, Any]] = {}
    until_s = time.monotonic() + 60
    while len(answers) < replicas and time.monotonic() < until_s:
        answer = handle.remote().result(timeout_s=30)
        answers[answer["pid"]] = answer
    return list(answers.values())


def main(path: str, gpus: int, replicas: int, written: Path) -> None:
    """Write JSON: model id -> one entry a replica."""
    ray.init(num_cpus=64, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    result = {}
    for config in model_configs(Path(path)):
        options = deployment_options(config)
        del options["autoscaling_config"]
        deployment = serve.deployment(Probe, num_replicas=replicas, **options)  # type: ignore[arg-type]
        handle = serve.run(deployment.bind(), name=config.app_name, route_prefix=None)
        result[config.id] = seen(handle, replicas)
    written.write_text(json.dumps(result))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
