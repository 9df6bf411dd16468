"""CPU time and memory of processes, read from /proc: the scheduler's own accounting, in nanoseconds."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds spent so far and resident bytes, summed over the processes of a group."""

    cpu_s: float = 0.0
    memory_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_s + other.cpu_s, self.memory_bytes + other.memory_bytes)


def _processes() -> Iterator[tuple[int, str]]:
    """Process ids with their titles and command lines."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended between the listing and the reading
            yield int(entry.name), command


def _usage(pid: int) -> Usage:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Usage()
    ticked_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Usage(max(_scheduled_s(pid), ticked_s), int(fields[21]) * _PAGE_BYTES)


def _scheduled_s(pid: int) -> float:
    """CPU time of the threads that live, finer than ticks; 0 where the kernel does not tell."""
    threads = Path(f"/proc/{pid}/task")
    try:
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads.iterdir()) / 1e9
    except OSError:
        return 0.0


class Groups:
    """Named groups of processes, found once by a piece of their command line, or given by id."""

    def __init__(
        self, marks: Mapping[str, Sequence[str]], pids: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """`marks`: group -> pieces of a command line, any of which puts a process into the group."""
        self.pids: dict[str, list[int]] = {name: list(some) for name, some in (pids or {}).items()}
        for pid, command in _processes():
            for name, pieces in marks.items():
                if pid != os.getpid() and any(piece in command for piece in pieces):
                    self.pids.setdefault(name, []).append(pid)
                    break

    def usage(self) -> dict[str, Usage]:
        """What each group has used up to now."""
        return {name: sum(map(_usage, some), Usage()) for name, some in self.pids.items()}


def descendants(pid: int) -> list[int]:
    """`pid` and all processes below it."""
    parents: dict[int, list[int]] = {}
    for child, _ in _processes():
        try:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(child)
    found, open_ = [], [pid]
    while open_:
        current = open_.pop()
        found.append(current)
        open_ += parents.get(current, [])
    return found
