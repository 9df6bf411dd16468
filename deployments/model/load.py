"""CPU and memory of a process with all its children, such as an engine's workers."""

import time

import psutil

SAMPLE_S = 1.0


class ProcessLoad:
    """Cores in use and resident bytes, over the process tree; sampled at most once a second."""

    def __init__(self, pid: int | None = None) -> None:
        self._root = psutil.Process(pid)
        self._sampled_s = float("-inf")
        self._cpu_s = 0.0
        self._result = (0.0, 0)

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
        cpu_s, memory_bytes = 0.0, 0
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    memory_bytes += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return cpu_s, memory_bytes
