"""Means count only snapshots in which a model works; memory is the peak."""

import pytest

from deployments.evaluation.resource_use import ResourceUse
from deployments.records.snapshot import ModelRow, Snapshot
from tests.deployments.fake_endpoint import card, warm


def snapshot(*replicas: object) -> Snapshot:
    return Snapshot("b", 1, 0.0, {"m": ModelRow(card("m"), replicas)})  # type: ignore[arg-type]


def test_use_is_summed_over_replicas_and_averaged_over_working_snapshots() -> None:
    use = ResourceUse()
    use.see(
        snapshot(
            warm("m", running=1, cpu_share=1.0, gpu_share=0.5, memory_bytes=10), warm("m", cpu_share=0.5)
        )
    )
    use.see(snapshot(warm("m", running=2, cpu_share=0.5, gpu_share=0.3, memory_bytes=30)))
    use.see(snapshot(warm("m", cpu_share=0.0, memory_bytes=20)))
    found = use.report()["m"]
    assert found == {"cpu_cores": pytest.approx(1.0), "gpus": pytest.approx(0.4), "peak_memory_bytes": 30.0}


def test_a_model_that_never_worked_used_nothing() -> None:
    use = ResourceUse()
    use.see(snapshot(warm("m", memory_bytes=5)))
    assert use.report()["m"] == {"cpu_cores": 0.0, "gpus": 0.0, "peak_memory_bytes": 5.0}
