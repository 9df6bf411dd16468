"""How busy a replica is: CPU and memory of its processes, its own GPUs by NVIDIA's management library."""

import os
import time
from typing import Any

import psutil

from deployments.logger import get_logger

logger = get_logger(__name__)


class GpuLoad:
    """Mean utilisation in [0, 1] over the devices in CUDA_VISIBLE_DEVICES; 0 without any.

    `nvml` is the management library, such as `vllm.third_party.pynvml`.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._sampled_s = float("-inf")
        self._share = 0.0
        self._devices: list[Any] = []
        names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        if not names:
            return
        try:
            nvml.nvmlInit()
            self._devices = [self._device(name) for name in names]
        except nvml.NVMLError as error:
            logger.warning("GPU load is not reported: %s", error)

    def _device(self, name: str) -> Any:
        if name.isdecimal():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)

    def sample(self) -> float:
        """The share of time in which the devices worked; read at most once a second."""
        now_s = time.monotonic()
        if self._devices and now_s - self._sampled_s >= SAMPLE_S:
            rates = [self._nvml.nvmlDeviceGetUtilizationRates(device).gpu for device in self._devices]
            self._share = sum(rates) / len(rates) / 100
            self._sampled_s = now_s
        return self._share


SAMPLE_S = 1.0


class ProcessLoad:
    """Cores in use and resident bytes, over the process tree; sampled at most once a second."""

    def __init__(self, pid: int | None = None) -> None:
        self._root = psutil.Process(pid)
        self._sampled_s = float("-inf")
        self._cpu_s = 0.0
        self._result = (0.0, 0)
        self.children_wait_for_cores = False  # or have one: at the last sample one of them could run

    def sample(self) -> tuple[float, int]:
        """Cores in use since the last sample, and resident memory in bytes."""
        now_s = time.monotonic()
        if now_s - self._sampled_s >= SAMPLE_S:
            cpu_s, memory_bytes = self._read()
            used_s = max(0.0, cpu_s - self._cpu_s)  # a child that ended takes its time along
            cores = used_s / (now_s - self._sampled_s) if self._sampled_s > 0 else 0.0
            self._result = (cores, memory_bytes)
            self._sampled_s, self._cpu_s = now_s, cpu_s
        return self._result

    def _read(self) -> tuple[float, int]:
        cpu_s, memory_bytes, can_run = 0.0, 0, False
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    memory_bytes += process.memory_info().rss
                    can_run |= process is not self._root and process.status() == psutil.STATUS_RUNNING
            except psutil.NoSuchProcess:
                continue
        self.children_wait_for_cores = can_run
        return cpu_s, memory_bytes
