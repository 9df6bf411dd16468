import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.model import load as load_module
from deployments.model.load import GpuLoad, ProcessLoad


def test_a_busy_child_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "SAMPLE_S", 0.0)
    load = ProcessLoad()
    load.sample()
    busy = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as child:
        time.sleep(1.0)
        cores, memory_bytes = load.sample()
        child.kill()
    assert cores > 0.05
    assert load.children_wait_for_cores
    load.sample()
    assert not load.children_wait_for_cores
    assert memory_bytes > 10e6


def test_a_child_that_ends_leaves_no_negative_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "SAMPLE_S", 0.0)
    load = ProcessLoad()
    with subprocess.Popen(
        [sys.executable, "-c", "sum(range(10**7)); input()"], stdin=subprocess.PIPE
    ) as child:
        time.sleep(0.5)
        load.sample()
        child.kill()
    assert load.sample()[0] >= 0.0


def test_samples_are_a_second_apart() -> None:
    load = ProcessLoad(os.getpid())
    assert load.sample() is load.sample()


class Nvml:
    """Two devices; `fails` makes the library unusable, as on a machine without driver."""

    NVMLError = RuntimeError

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[Any] = []

    def nvmlInit(self) -> None:  # noqa: N802
        if self.fails:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"index {index}"

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:  # noqa: N802
        return f"uuid {name}"

    def nvmlDeviceGetUtilizationRates(self, device: str) -> SimpleNamespace:  # noqa: N802
        self.asked.append(device)
        return SimpleNamespace(gpu=40 if device.endswith("1") else 80)


def test_the_replicas_own_devices_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-abc")
    nvml = Nvml()
    load = GpuLoad(nvml)
    assert load.sample() == pytest.approx(0.6)
    assert load.sample() == pytest.approx(0.6)
    assert nvml.asked == ["index 1", "uuid GPU-abc"]  # once a second


def test_without_devices_or_driver_the_share_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert GpuLoad(Nvml()).sample() == 0.0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert GpuLoad(Nvml(fails=True)).sample() == 0.0
