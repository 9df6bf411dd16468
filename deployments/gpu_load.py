"""How busy a replica's own GPUs are, by NVIDIA's management library. Not confirmed on a GPU."""

import logging
import os
import time
from typing import Any

logger = logging.getLogger("ray.serve")

SAMPLE_S = 1.0


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
