"""The processes of a private pool, found by their titles among the descendants of this one; their memory."""

import os
import time
from pathlib import Path
from typing import Final

import psutil

from scripts.benchmarks.serving.processes import descendants

TITLES: Final = {
    "replica": "ray::ServeReplica:model-",
    "ingress": "ray::ServeReplica:fastserve:Ingress",
    "table": "ray::TableActor",
    "learner": "ray::ServeReplica:fastserve:Learner",
    "evaluator": "ray::ServeReplica:fastserve:Evaluator",
    "controller": "ray::ServeController",
    "haproxy": "haproxy ",
}
KINDS: Final = tuple(TITLES)
_YOUNG_S: Final = 30.0  # a process grows while it starts


class Victims:
    """Finds process ids by kind, anew at each call."""

    def pids(self, kind: str) -> list[int]:
        """Those that run now."""
        mark = TITLES[kind]
        if kind == "haproxy":  # one that stands in has no parent of ours: by the file that its watcher keeps
            return [pid for pid in _haproxies() if _title(pid).startswith(mark)]
        return [pid for pid in descendants(os.getpid()) if _title(pid).startswith(mark)]

    def replicas(self, model: str) -> list[int]:
        """The replicas of one model that run now."""
        mark = f"{TITLES['replica']}{model}:"
        return [pid for pid in descendants(os.getpid()) if _title(pid).startswith(mark)]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _haproxies() -> list[int]:
    """The HAProxy that serves now, by the files beside its config."""
    folder = Path(os.environ["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]).parent
    found = []
    for name in ("current", "bridge"):
        for file in folder.glob(f"*/haproxy.{name}"):
            try:
                found.append(int(file.read_text()))
            except (OSError, ValueError):
                continue
    return found[:1] if found and _title(found[0]) else found[1:]


class Memory:
    """Resident memory of every process of the pool over time."""

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[float, float, str]]] = {}

    def sample(self) -> None:
        """Read it once."""
        for pid in descendants(os.getpid()):
            try:
                process = psutil.Process(pid)
                age_s = time.time() - process.create_time()
                row = (age_s, process.memory_info().rss / 2**20, _title(pid).split(" ")[0])
            except psutil.Error:
                continue
            self._seen.setdefault(pid, []).append(row)

    def growth_mib(self) -> dict[str, float]:
        """The largest growth of one process by kind, from its 30th second on."""
        found: dict[str, float] = {}
        for rows in self._seen.values():
            grown = [row for row in rows if row[0] >= _YOUNG_S]
            title = rows[-1][2]
            kind = next((name for name, mark in TITLES.items() if title.startswith(mark.strip())), "")
            if kind and len(grown) > 1:
                found[kind] = max(found.get(kind, 0.0), grown[-1][1] - grown[0][1])
        return found
