"""Without the compiler a policy decides as it does with it, and nothing of the compiler is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.training.network import DispatchNetwork
from policies.training.trainer import parameters_of
from tests.policies.decided import numbers


def checkpoint() -> bytes:
    """A policy whose residual counts."""
    net = DispatchNetwork(16, drop=("kv_use",), seed=3)
    torch.manual_seed(3)
    for parameter in (net.policy.score.weight, net.policy.score.bias, net.policy.skip.weight):
        torch.nn.init.normal_(parameter, std=0.01)
    tensors = {name: value for name, value in parameters_of(net).items() if not name.startswith("value.")}
    return LearnedPolicy(tensors, new_manifest(tensors, 20.0, net.hidden, {"decisions": 0.0})).to_bytes()


def test_it_decides_as_machine_code_does(tmp_path: Path) -> None:
    file = tmp_path / "policy.safetensors"
    file.write_bytes(checkpoint())
    done = subprocess.run(
        [sys.executable, "-m", "tests.policies.decided", str(file)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["loaded"] == []
    compiled = numbers(file.read_bytes())
    assert set(told["numbers"]) == set(compiled)
    for name, values in compiled.items():
        assert told["numbers"][name] == pytest.approx(values, rel=1e-4, abs=1e-4), name
    assert max(map(abs, compiled["residual"])) > 0.1
