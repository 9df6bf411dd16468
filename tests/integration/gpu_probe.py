"""Deploys a Serve config's models on simulated GPUs, a probe in each replica; writes what the probes report.

usage: python gpu_probe.py CONFIG GPUS REPLICAS WEIGHTS RESULT    in its own process, which joins one cluster

WEIGHTS is a folder with any small model: vLLM's configuration reads a model's files, and there is no network.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from deployments.model.config import ModelConfig, deployment_options
from tests.integration import simulated_gpus


class Probe:
    """Stands where Model would, with the same resources."""

    def __init__(self, config: ModelConfig, weights: str) -> None:
        self._config, self._weights = config, weights

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve hands over live settings, which change no device."""

    def devices(self) -> dict[str, Any]:
        """The devices that Ray gave to this replica."""
        return {
            "pid": os.getpid(),
            "gpu_ids": [int(gpu) for gpu in ray.get_gpu_ids()],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }

    def engine(self) -> dict[str, Any]:
        """What vLLM makes of the model's flags in this place, up to where it would load the weights."""
        simulated_gpus.install()
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.executor.abstract import Executor

        from deployments.model.engines.vllm import command_line, parse_arguments

        args = parse_arguments(command_line(self._config, self._weights))
        vllm_config = AsyncEngineArgs.from_cli_args(args).create_engine_config()
        parallel = vllm_config.parallel_config
        return {
            "executor": Executor.get_class(vllm_config).__name__,
            "world_size": parallel.world_size,
            "ranks": ranks(parallel) if parallel.use_ray else [],
        }


def ranks(parallel: Any) -> list[list[int]]:
    """The GPUs of an actor for each rank, in the bundles that vLLM's Ray executor takes."""
    from vllm.v1.executor.ray_utils import get_bundles_sorted_by_node, initialize_ray_cluster

    initialize_ray_cluster(parallel, require_gpu_on_driver=False)
    group = parallel.placement_group
    worker = ray.remote(num_cpus=0, num_gpus=1)(lambda: [int(gpu) for gpu in ray.get_gpu_ids()])
    bundles = [bundle for bundle, _, _ in get_bundles_sorted_by_node(group)]
    places = [PlacementGroupSchedulingStrategy(group, bundle) for bundle in bundles[: parallel.world_size]]
    return ray.get([worker.options(scheduling_strategy=place).remote() for place in places], timeout=120)


def model_configs(path: Path) -> list[ModelConfig]:
    """The model configs of a Serve config file."""
    applications = yaml.safe_load(path.read_text())["applications"]
    return [
        ModelConfig.model_validate(application["args"])
        for application in applications
        if application["import_path"] == "serve_app.app:build_model"
    ]


def over_nodes(configs: list[ModelConfig]) -> Iterator[ModelConfig]:
    """The models with more than one GPU, as they would be spread over nodes."""
    for config in configs:
        if config.ranks > 1:
            yield config.replace(id=f"{config.id}-over-nodes", multi_node=True)


def reports(handle: Any, replicas: int) -> list[dict[str, Any]]:
    """The devices of each of so many replicas."""
    answers: dict[int, dict[str, Any]] = {}
    until_s = time.monotonic() + 120
    while len(answers) < replicas and time.monotonic() < until_s:
        answer = handle.devices.remote().result(timeout_s=60)
        answers[answer["pid"]] = answer
    return list(answers.values())


def probe(config: ModelConfig, replicas: int, weights: str) -> dict[str, Any]:
    """What the replicas of one model report."""
    options = deployment_options(config)
    deployment = serve.deployment(Probe, num_replicas=replicas, **options)  # type: ignore[arg-type]
    small = config.replace(context_tokens=512)  # the context of the small model
    handle = serve.run(deployment.bind(small, weights), name=config.app_name, route_prefix=None)
    return {"replicas": reports(handle, replicas), "engine": handle.engine.remote().result(timeout_s=300)}


def main(path: str, gpus: int, replicas: int, weights: str, written: Path) -> None:
    """Write JSON: model id -> devices of each replica, and what vLLM says in one of them."""
    ray.init(num_cpus=128, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    configs = model_configs(Path(path))
    result = {config.id: probe(config, replicas, weights) for config in configs}
    for config in configs:
        serve.delete(config.app_name)
    result |= {config.id: probe(config, 1, weights) for config in over_nodes(configs)}
    written.write_text(json.dumps(result))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
