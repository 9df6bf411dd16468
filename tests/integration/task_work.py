"""What tests run as tasks: functions that a worker of Ray finds by name, and how to see its processes."""

import os
import time
from pathlib import Path

import psutil


def echo(data: bytes) -> bytes:
    """The data, with the niceness and the threads that it was read with."""
    return b" ".join([data, str(os.nice(0)).encode(), os.environ["OMP_NUM_THREADS"].encode()])


def fail(data: bytes) -> bytes:
    """A failure of two lines."""
    raise ValueError(f"{data.decode()} does not fit\nat all")


def die(data: bytes) -> bytes:
    """The end of the process."""
    os._exit(1)


def allocate(data: bytes) -> bytes:
    """So many bytes as `data` says."""
    return bytes(len(bytearray(int(data))) % 2)


def sleep(path: bytes) -> bytes:
    """Write the process id to the file of that name, and stay."""
    written = Path(f"{path.decode()}.part")
    written.write_text(str(os.getpid()))
    written.rename(path.decode())
    time.sleep(600.0)
    return b""


def running(*names: str) -> list[int]:
    """Processes below this one whose title is that of a task whose name begins with one of these."""
    titles = tuple(f"ray::{name}" for name in names)
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(titles):
                found.append(process.pid)
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
    return found
