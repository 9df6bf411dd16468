"""Runs a model's code against an item's tests in two locked processes: code in one, tests in the other.

What the kernel guarantees is said in `lockdown`. The code cannot write its own verdict: the tests run
elsewhere and see only plain data of it. Where the kernel cannot give that, `run` refuses.
"""

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).resolve().parents[3]
_RESULT_BYTES: Final = 256
_START: Final = (
    "import sys; sys.path.insert(0, {path!r}); from deployments.suites.sandbox.{name} import main; main()"
)
_PROBE: Final = (
    "import sys; sys.path.insert(0, {path!r})\n"
    "from deployments.suites.sandbox.lockdown import lock\n"
    "lock({limits!r}, (1,))\n"
)


class SandboxUnavailableError(RuntimeError):
    """This machine cannot lock code down."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; `cpu_s` and `memory_bytes` are each process's."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 512 << 20


def run(code: str, test: str, entry_point: str = "", limits: Limits = Limits()) -> str:
    """'passed' if the tests ran to their end, else what stopped them: 'failed: ...', 'time limit', 'killed'.

    The tests are `test`, and then `check(<entry_point>)` where an entry point is given. They see the
    code's functions and plain values by their names. Raises SandboxUnavailableError.
    """
    reason = unavailable()
    if reason:
        raise SandboxUnavailableError(reason)
    job = json.dumps({"code": code, "test": test, "entry_point": entry_point}).encode()
    to_guest, to_judge, verdict = os.pipe(), os.pipe(), os.pipe()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with tempfile.TemporaryFile() as stdin:
            stdin.write(job)
            stdin.seek(0)
            processes.append(_start("guest", limits, (), to_guest[0], to_judge[1]))
            ends = (to_judge[0], to_guest[1], verdict[1])
            processes.append(_start("judge", limits, ends, stdin.fileno(), subprocess.DEVNULL))
        for descriptor in (*to_guest, *to_judge, verdict[1]):
            os.close(descriptor)
        return _verdict(verdict[0], time.monotonic() + limits.wall_s)
    finally:
        os.close(verdict[0])
        for process in processes:
            _end(process)


@functools.cache
def unavailable() -> str:
    """Why code cannot be locked down on this machine; '' where it can."""
    script = _PROBE.format(path=str(_PROJECT), limits=asdict(Limits()))
    try:
        probe = subprocess.run(_python(script), capture_output=True, timeout=20, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = probe.stderr.decode(errors="replace").strip().splitlines()
    return "" if probe.returncode == 0 else (lines[-1] if lines else f"exit status {probe.returncode}")


def _python(script: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", script]


def _start(
    name: str, limits: Limits, ends: tuple[int, ...], stdin: int, stdout: int
) -> subprocess.Popen[bytes]:
    script = _START.format(path=str(_PROJECT), name=name)
    return subprocess.Popen(
        [*_python(script), json.dumps(asdict(limits)), *map(str, ends)],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        pass_fds=ends,
        cwd="/",
        env={"PYTHONHASHSEED": "0"},
        start_new_session=True,
    )


def _verdict(descriptor: int, deadline_s: float) -> str:
    """What the judge wrote: at most 256 bytes."""
    written = b""
    while len(written) < _RESULT_BYTES:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))
        if not ready:
            return "time limit"
        part = os.read(descriptor, _RESULT_BYTES - len(written))
        if not part:
            break
        written += part
    return written.decode(errors="replace") or "killed"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process with its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
