"""Runs a function of this project as a Ray task: bytes in, bytes out, with bounded threads, memory and time.

Ray shows the task by its name and with its CPUs. It has a process of its own, which ends with the task, and
with the process that asked for it, however that ends: Ray kills what a dead process owns.
"""

import asyncio
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import psutil
import ray
from ray.exceptions import RayError, RayTaskError

_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Work = Callable[[bytes], bytes]


class TaskError(RuntimeError):
    """The task did not end well; the message says what ended it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a task may take. `memory_bytes` is of data, beside what Ray's process holds before it begins."""

    num_cpus: float  # that it waits for on the cluster
    threads: int
    nice: int
    timeout_s: float  # the wait for its CPUs included
    memory_bytes: int | None = None


async def run_task(name: str, work: Work, data: bytes, bounds: Bounds) -> bytes:
    """What `work`, a function that a module holds by name, makes of `data` in a task called `name`.

    Raises TaskError where it fails, TimeoutError after `timeout_s`; the task ends either way.
    """
    environment = {"env_vars": dict.fromkeys(_THREADS, str(bounds.threads))}
    task = _TASK.options(name=name, num_cpus=bounds.num_cpus, runtime_env=environment)
    result = task.remote(work, data, bounds)
    try:
        async with asyncio.timeout(bounds.timeout_s):
            return cast(bytes, await result)
    except RayError as error:
        raise TaskError(f"'{name}' failed: {_reason(error)}") from error
    except TimeoutError:
        ray.cancel(result, force=True)
        waited = f"{bounds.timeout_s:g} s, the wait for {bounds.num_cpus:g} CPUs included"
        raise TimeoutError(f"'{name}' did not end within {waited}.") from None
    except asyncio.CancelledError:
        ray.cancel(result, force=True)
        raise


def _reason(error: RayError) -> str:
    """The function's own exception, or what Ray says of a process that died."""
    if isinstance(error, RayTaskError) and error.cause is not None:
        return f"{type(error.cause).__name__}: {error.cause}"
    return str(error).partition("\n")[0]


def _bounded(work: Work, data: bytes, bounds: Bounds) -> bytes:
    os.nice(bounds.nice)  # of this thread and those that it starts; Ray's own go on as they are
    if bounds.memory_bytes is not None:
        most_bytes = psutil.Process().memory_info().data + bounds.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, resource.RLIM_INFINITY))
    return work(data)


# Once in each process: priority and limits cannot be taken back. Not again: who asked decides that.
_TASK: Final[Any] = ray.remote(max_calls=1, max_retries=0)(_bounded)
