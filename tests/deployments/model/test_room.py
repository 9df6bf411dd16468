"""What a successor needs beside its predecessor."""

from typing import Any

import pytest

from deployments.model.config import ModelConfig, deployment_options
from deployments.model.room import bundles, has_room


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"num_cpus": 0.25}, [{"CPU": 0.25}]),
        ({"num_cpus": 0}, [{"CPU": 0.001}]),
        (
            {"num_gpus": 2, "tensor_parallel": 2, "accelerator_type": "H100"},
            [{"CPU": 1.0, "GPU": 2.0, "accelerator_type:H100": 0.001}],
        ),
        (
            {"num_gpus": 2, "tensor_parallel": 2, "multi_node": True},
            [{"CPU": 1.0, "GPU": 1.0}, {"GPU": 1.0}],
        ),
    ],
)
def test_a_replica_takes_what_its_options_say(values: dict[str, Any], wanted: Any) -> None:
    config = ModelConfig.model_validate({"id": "m", "engine": "simulated", **values})
    assert bundles(deployment_options(config)) == wanted


def test_outside_a_cluster_there_is_no_room() -> None:
    assert not has_room({"ray_actor_options": {"num_cpus": 1.0}})
