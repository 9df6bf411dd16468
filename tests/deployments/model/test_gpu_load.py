from types import SimpleNamespace
from typing import Any

import pytest

from deployments.model.load import GpuLoad


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
