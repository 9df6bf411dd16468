"""cluster.gpu.yaml on simulated GPUs: every replica gets devices of its own, and vLLM starts its ranks there.

What no test here can show: weights, memory and speed. vLLM's CPU build runs its own configuration, choice of
executor and use of placement groups; only the description of the devices is replaced (simulated_gpus).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployments.tiny_llama import make_tiny_llama
from tests.integration.gpu_probe import model_configs

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "cluster.gpu.yaml"
CPU_CONFIG = ROOT / "cluster.yaml"
REPLICAS = 2
GPUS = 12  # two replicas of four models with one GPU and of one with two


def document(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def endpoint(path: Path) -> dict[str, Any]:
    """The app `fastserve` of a config, its deployments by name."""
    app: dict[str, Any] = next(app for app in document(path)["applications"] if app["name"] == "fastserve")
    return {**app, "deployments": {entry["name"]: entry for entry in app["deployments"]}}


def test_the_config_loads_with_four_single_gpu_models_and_one_tensor_parallel() -> None:
    configs = model_configs(CONFIG)
    assert [(config.num_gpus, config.ranks) for config in configs] == [(1, 1)] * 4 + [(2, 2)]
    assert len({config.id for config in configs}) == 5
    assert all(config.engine == "vllm" and "/" in config.source for config in configs)


def test_each_app_is_named_after_its_model() -> None:
    names = {app["name"] for app in document(CONFIG)["applications"]}
    assert names - {"fastserve", "dashboard"} == {config.app_name for config in model_configs(CONFIG)}


def test_what_the_two_configs_share_is_the_same() -> None:
    cpu, gpu = document(CPU_CONFIG), document(CONFIG)
    assert gpu["controller_options"] == cpu["controller_options"]
    assert gpu["http_options"] == cpu["http_options"]
    page = [[app for app in one["applications"] if app["name"] == "dashboard"] for one in (cpu, gpu)]
    assert page[0] == page[1] != []
    small, large = endpoint(CPU_CONFIG), endpoint(CONFIG)
    assert {**large["args"], "num_cpus": 0} == {**small["args"], "num_cpus": 0}
    assert large["deployments"].keys() == small["deployments"].keys()
    settings = {name: entry["user_config"] for name, entry in large["deployments"].items()}
    ours = {name: entry["user_config"] for name, entry in small["deployments"].items()}
    assert settings["Ingress"] == ours["Ingress"]
    assert settings["Evaluator"]["suites"] == ours["Evaluator"]["suites"]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each model's replicas report, and vLLM in one of them."""
    folder = tmp_path_factory.mktemp("gpus")
    environment = {
        **os.environ,
        "FASTSERVE_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    weights = make_tiny_llama(folder / "weights")
    written = folder / "reported.json"
    script = ROOT / "tests/integration/gpu_probe.py"
    command = [sys.executable, script, CONFIG, str(GPUS), str(REPLICAS), weights, written]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(written.read_text())
    return result


@pytest.mark.integration
@pytest.mark.timeout(960)
def test_each_replica_gets_gpus_of_its_own(reported: dict[str, Any]) -> None:
    configs = model_configs(CONFIG)
    replicas = [replica for config in configs for replica in reported[config.id]["replicas"]]
    assert sorted(gpu for replica in replicas for gpu in replica["gpu_ids"]) == list(range(GPUS))
    for config in configs:
        assert len(reported[config.id]["replicas"]) == REPLICAS
        for replica in reported[config.id]["replicas"]:
            assert len(replica["gpu_ids"]) == config.ranks
            assert replica["visible"] == ",".join(map(str, replica["gpu_ids"]))


@pytest.mark.integration
@pytest.mark.timeout(960)
def test_vllm_takes_every_model_s_flags_and_starts_ranks_as_processes_of_the_replica(
    reported: dict[str, Any],
) -> None:
    for config in model_configs(CONFIG):
        engine = reported[config.id]["engine"]
        expected = "MultiprocExecutor" if config.ranks > 1 else "UniProcExecutor"
        assert (engine["executor"], engine["world_size"]) == (expected, config.ranks), config.id


@pytest.mark.integration
@pytest.mark.timeout(960)
def test_over_nodes_vllm_finds_a_gpu_for_each_rank_in_the_placement_group(reported: dict[str, Any]) -> None:
    config = model_configs(CONFIG)[-1]
    spread = reported[f"{config.id}-over-nodes"]
    assert spread["engine"]["executor"] == "RayExecutorV2"
    assert all(len(gpus) == 1 for gpus in spread["engine"]["ranks"])
    assert len({gpus[0] for gpus in spread["engine"]["ranks"]}) == config.ranks
    assert spread["replicas"][0]["gpu_ids"] == []  # the ranks hold the GPUs, not the replica
    assert spread["replicas"][0]["visible"] is None  # and it is free to look at them all
