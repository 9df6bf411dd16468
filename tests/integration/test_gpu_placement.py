"""cluster.gpu.yaml on simulated GPUs: every replica gets devices of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gpu_probe import model_configs

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "cluster.gpu.yaml"
REPLICAS = 2
GPUS = 10  # two replicas of three models with one GPU and of one with two


def test_the_config_loads_with_three_single_gpu_models_and_one_tensor_parallel() -> None:
    configs = model_configs(CONFIG)
    assert [(config.num_gpus, config.tensor_parallel) for config in configs] == [
        (1, 1),
        (1, 1),
        (1, 1),
        (2, 2),
    ]
    assert len({config.id for config in configs}) == 4
    assert all(config.engine == "vllm" and "/" in config.source for config in configs)


def test_each_app_is_named_after_its_model() -> None:
    import yaml

    applications = yaml.safe_load(CONFIG.read_text())["applications"]
    by_name = {application["name"] for application in applications if application["name"] != "fastserve"}
    assert by_name == {config.app_name for config in model_configs(CONFIG)}


@pytest.mark.integration
def test_each_replica_gets_gpus_of_its_own(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FASTSERVE_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    written = tmp_path / "seen.json"
    script = ROOT / "tests/integration/gpu_probe.py"
    command = [sys.executable, script, CONFIG, str(GPUS), str(REPLICAS), written]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen: dict[str, list[dict[str, Any]]] = json.loads(written.read_text())
    taken = [gpu for replicas in seen.values() for replica in replicas for gpu in replica["gpu_ids"]]
    assert sorted(taken) == list(range(GPUS)), seen  # each device once
    for config in model_configs(CONFIG):
        assert len(seen[config.id]) == REPLICAS
        for replica in seen[config.id]:
            assert len(replica["gpu_ids"]) == config.tensor_parallel
            assert replica["visible"] == ",".join(map(str, replica["gpu_ids"]))
            assert replica["in_group"] == (config.tensor_parallel > 1)
