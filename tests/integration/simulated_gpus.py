"""Makes vLLM's CPU build take simulated GPUs for real ones, as far as its configuration goes."""

import os
from typing import Any


def install() -> None:
    """Replace vLLM's platform, before anything else of vLLM is imported.

    Only the description of the devices is replaced: parsing, checks, ParallelConfig, choice of executor and
    use of placement groups are vLLM's own code. Nothing is computed.
    """
    import vllm.platforms as platforms
    from vllm.platforms.cpu import CpuPlatform

    def no_device_checks(_class: type, vllm_config: Any) -> None:
        vllm_config.parallel_config.worker_cls = "vllm.v1.worker.gpu_worker.Worker"

    described = {
        "device_name": "cuda",
        "ray_device_key": "GPU",
        "device_control_env_var": "CUDA_VISIBLE_DEVICES",
        "is_cuda": classmethod(lambda _class: True),
        "device_count": classmethod(lambda _class: len(visible())),
        "check_and_update_config": classmethod(no_device_checks),
    }
    platforms._current_platform = type("SimulatedGpus", (CpuPlatform,), described)()


def visible() -> list[str]:
    """The devices that Ray gave to this process."""
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
