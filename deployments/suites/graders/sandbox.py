"""Runs untrusted Python in a process of its own with CPU, memory and time limits and without network.

Guaranteed by the kernel: CPU and wall time, memory per process, file size, and, where namespaces can be
made, no network and no process left behind. In every case an audit hook (PEP 578) inside the process
refuses sockets, processes, native libraries, and files outside Python's own; that holds against Python
code, not against a hole in the interpreter. `isolation()` says which of the two there is. Not guaranteed:
that code cannot cheat its own tests, with which it shares a process.
"""

import contextlib
import functools
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

_LOG: Final = logging.getLogger(__name__)
_WORKER: Final = Path(__file__).with_name("sandbox_worker.py")
_RESULT_BYTES: Final = 256
_UNSHARE: Final = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
)

Isolation = Literal["namespaces", "audit hook only"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 512 << 20
    file_bytes: int = 1 << 20
    processes: int = 16  # not enforced by the kernel for root


def run(code: str, test: str, entry_point: str = "", limits: Limits = Limits()) -> str:
    """'passed' if the tests ran to their end, else what stopped them: 'failed: ...', 'time limit', 'killed'.

    The tests are `test`, and then `check(<entry_point>)` where an entry point is given.
    """
    job = {"code": code, "test": test, "entry_point": entry_point, "limits": asdict(limits)}
    with (
        tempfile.TemporaryDirectory(prefix="fastserve-sandbox-") as folder,
        tempfile.TemporaryFile() as stdin,
    ):
        stdin.write(json.dumps(job).encode())
        stdin.seek(0)
        process = subprocess.Popen(
            _command(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            return _result(process, time.monotonic() + limits.wall_s)
        finally:
            _end(process)


@functools.cache
def isolation() -> Isolation:
    """What keeps code from the network on this machine; found once, and logged where it is the weaker."""
    try:
        probe = subprocess.run(
            [*_UNSHARE, sys.executable, "-I", "-S", "-c", ""], capture_output=True, timeout=20
        )
        if probe.returncode == 0:
            return "namespaces"
        reason = probe.stderr.decode(errors="replace").strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    _LOG.warning(
        "unit_test grader: no namespaces here (%s); an audit hook alone refuses the network.", reason
    )
    return "audit hook only"


def _command() -> list[str]:
    prefix = _UNSHARE if isolation() == "namespaces" else ()
    return [*prefix, sys.executable, "-I", "-S", str(_WORKER)]


def _result(process: subprocess.Popen[bytes], deadline_s: float) -> str:
    """What the worker wrote: at most 256 bytes are read, whatever it writes."""
    assert process.stdout is not None, "started with a pipe"
    said = b""
    while len(said) < _RESULT_BYTES:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
        if not ready:
            return "time limit"
        part = os.read(process.stdout.fileno(), _RESULT_BYTES - len(said))
        if not part:
            break
        said += part
    return said.decode(errors="replace") or "killed"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker and all it started: its process group, and with it its PID namespace."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
