"""The sandbox against loops, memory, forks, sockets, files, endless output and early exits."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments.suites.graders import sandbox
from deployments.suites.graders.sandbox import Limits, isolation, run

CHECK = "def check(candidate):\n    assert candidate() == 1\n"
QUICK = Limits(wall_s=2.0, cpu_s=1, memory_bytes=256 << 20)


def verdict(body: str, limits: Limits = QUICK) -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return run(f"def f():\n{lines}\n", CHECK, "f", limits)


def test_right_code_passes_with_the_standard_library_at_hand() -> None:
    assert (
        verdict(
            "import concurrent.futures, decimal, heapq, json, math, re, typing, xml.dom\nreturn 1", Limits()
        )
        == "passed"
    )


def test_wrong_code_fails_by_name() -> None:
    assert verdict("return 2") == "failed: AssertionError"


@pytest.mark.parametrize(
    "body",
    [
        "raise SystemExit",
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise KeyboardInterrupt",
        "def g(): return g()\nreturn g()",
    ],
)
def test_leaving_early_is_no_pass(body: str) -> None:
    assert verdict(body) != "passed"


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "return 9 ** 9 ** 9",
        "import re; re.match('(a|a)+$', 'a' * 60 + 'b')",
    ],
)
def test_endless_code_is_stopped(body: str) -> None:
    started = time.monotonic()
    assert verdict(body) in ("killed", "time limit")
    assert time.monotonic() - started < QUICK.wall_s + 2


def test_memory_is_limited() -> None:
    assert verdict("x = bytearray(1 << 30)\nreturn 1") == "failed: MemoryError"


@pytest.mark.parametrize(
    "body",
    [
        "import socket; socket.socket()",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import ctypes; ctypes.CDLL(None)",
        "open('/etc/passwd').read()",
        "open('here.txt', 'w').write('x')",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.listdir('/')",
        "import os; open(os.__file__, 'a')",
        "import os; open(os.path.dirname(os.__file__) + '/../../../../etc/passwd')",
    ],
)
def test_network_processes_and_files_are_refused(body: str) -> None:
    assert verdict(body + "\nreturn 1").startswith("failed: PermissionError")


def test_output_without_end_goes_nowhere() -> None:
    started = time.monotonic()
    assert verdict("import os\nwhile True: os.write(1, b'x' * 65536)") in ("killed", "time limit")
    assert time.monotonic() - started < 2 * QUICK.wall_s + 4


FORK_NATIVELY = """
import _posixsubprocess, os, sys
program = b"import time, os; os.setsid(); time.sleep(30)"
read, write = os.pipe()
_posixsubprocess.fork_exec(
    [sys.executable.encode(), b"-c", program, b"MARK"], [sys.executable.encode()], True, (), None, None,
    -1, -1, -1, -1, -1, -1, read, write, False, False, -1, None, None, None, -1, None, False)
return 1
"""


def _alive(mark: str) -> bool:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.skipif(isolation() != "namespaces", reason="needs namespaces")
def test_what_slips_past_the_hook_dies_with_its_namespace() -> None:
    mark = f"sandbox-escape-{os.getpid()}"
    verdict(FORK_NATIVELY.replace("MARK", mark).strip())
    deadline = time.monotonic() + 5
    while _alive(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(mark)


@pytest.mark.skipif(isolation() != "namespaces", reason="needs namespaces")
def test_the_network_is_gone_below_the_hook_too() -> None:
    program = "import os; print(os.listdir('/sys/class/net') if os.path.isdir('/sys/class/net') else [])\n"
    program += "import socket\nsocket.create_connection(('127.0.0.1', int(__import__('sys').argv[1])), 2)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        inside = subprocess.run([*sandbox._UNSHARE, sys.executable, "-c", program, port], capture_output=True)
        outside = subprocess.run([sys.executable, "-c", program, port], capture_output=True)
    assert outside.returncode == 0
    assert b"unreachable" in inside.stderr or b"refused" in inside.stderr


def test_without_namespaces_the_hook_stays_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sandbox, "_UNSHARE", ("false",))
    monkeypatch.setattr(sandbox._LOG, "disabled", False)  # a library of an earlier test may have done that
    caplog.set_level("WARNING", logger=sandbox._LOG.name)
    isolation.cache_clear()
    try:
        assert isolation() == "audit hook only"
        assert "audit hook alone" in caplog.text
        assert verdict("return 1", Limits()) == "passed"
        assert verdict("import socket; socket.socket()").startswith("failed: PermissionError")
        assert verdict("while True: pass") in ("killed", "time limit")
    finally:
        isolation.cache_clear()
