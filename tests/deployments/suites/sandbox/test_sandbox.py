"""The sandbox: honest code is judged rightly, hostile code that knows CPython gets nowhere."""

import os
from pathlib import Path

import pytest

from deployments.suites.sandbox import sandbox
from deployments.suites.sandbox.sandbox import Limits, SandboxUnavailableError, run, unavailable

CHECK = "def check(candidate):\n    assert candidate() == 1\n"
QUICK = Limits(wall_s=4.0, cpu_s=1, memory_bytes=256 << 20)


def verdict(body: str, limits: Limits = QUICK, test: str = CHECK) -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return run(f"def f():\n{lines}\n", test, "f", limits)


def test_this_machine_can_lock_code_down() -> None:
    assert unavailable() == ""


def test_right_code_passes_with_the_standard_library_at_hand() -> None:
    imports = "import concurrent.futures, csv, decimal, heapq, json, math, random, re, typing, xml.dom, zlib"
    assert verdict(f"{imports}\nreturn 1", Limits()) == "passed"


def test_wrong_code_fails_by_name() -> None:
    assert verdict("return 2") == "failed: AssertionError"


def test_tests_see_the_functions_and_values_of_the_code() -> None:
    code = "LIMIT = (1, {'a': {2, 3}})\ndef double(x): return 2 * x\ndef f(x): return double(x) + 1\n"
    test = "assert LIMIT == (1, {'a': {2, 3}})\nassert f(3) == double(3) + 1 == 7\n"
    assert run(code, test, limits=QUICK) == "passed"


@pytest.mark.parametrize(
    "value",
    [
        "1.5",
        "float('-inf')",
        "10 ** 5000",
        "b'x'",
        "2j",
        "{1: [(2,), frozenset({3})]}",
        "None",
        "True",
        "'\\ud800'",
    ],
)
def test_plain_data_comes_back_as_it_was(value: str) -> None:
    assert run("def f(x): return [x]\n", f"assert f({value}) == [{value}]\n", limits=QUICK) == "passed"


def test_a_class_of_the_code_can_be_used() -> None:
    code = (
        "class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x)\n"
        "    def __len__(self): return len(self.items)\n    def __iter__(self): return iter(self.items)\n"
    )
    test = "s = Stack()\ns.push(4)\nassert len(s) == 1 and s.items == [4] and list(s) == [4]\n"
    assert run(code, test, limits=QUICK) == "passed"


def test_an_argument_changed_in_place_is_changed_for_the_tests() -> None:
    code = "def f(rows, seen):\n    rows.sort()\n    seen['x'] = 1\n"
    test = "rows, seen = [2, 1], {}\nf(rows, seen)\nassert rows == [1, 2] and seen == {'x': 1}\n"
    assert run(code, test, limits=QUICK) == "passed"


def test_an_exception_of_the_code_is_that_exception_for_the_tests() -> None:
    test = (
        "try:\n    f()\nexcept KeyError as error:\n    assert 'gone' in str(error)\nelse:\n    assert False\n"
    )
    assert run("def f(): raise KeyError('gone')\n", test, limits=QUICK) == "passed"


def test_a_generator_is_read_item_by_item() -> None:
    code = "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1\n"
    test = "for i, n in enumerate(f()):\n    assert i == n\n    if i == 20: break\n"
    assert run(code, test, limits=QUICK) == "passed"


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
        "import os\nwhile True: os.write(1, b'x' * 65536)",
    ],
)
def test_endless_code_is_stopped(body: str) -> None:
    assert verdict(body) in ("killed", "time limit")


@pytest.mark.parametrize(
    "body", ["x = bytearray(1 << 30)\nreturn 1", "x = []\nwhile True: x.append(x[:] + [0] * 9999)"]
)
def test_memory_is_limited(body: str) -> None:
    assert verdict(body) in ("failed: MemoryError", "killed")


ALWAYS_EQUAL = """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    __hash__ = None
return Yes()
"""

FORGERIES = {
    "an object that equals everything": ALWAYS_EQUAL,
    "a number that equals everything": "class N(int):\n    def __eq__(self, o): return True\nreturn N(7)",
    "the verdict on every descriptor": (
        "import os\nfor d in range(64):\n    try: os.write(d, b'passed')\n    except OSError: pass\nreturn 2"
    ),
    "builtins replaced": "import builtins\nbuiltins.AssertionError = ValueError\nreturn 2",
    "the caller's frames": (
        "import sys, gc\nframe = sys._getframe()\nwhile frame:\n"
        "    for value in list(frame.f_locals.values()):\n"
        "        if isinstance(value, dict): value['check'] = None\n    frame = frame.f_back\nreturn 2"
    ),
    "the name of the tests": "global check\ncheck = lambda candidate: None\nreturn 2",
    "a reply too many": (
        'import os\nfor d in range(64):\n    try: os.write(d, b\'["value", ["i", "1"], ["l"]]\\n\' * 9)\n'
        "    except OSError: pass\nreturn 2"
    ),
}


@pytest.mark.parametrize("name", [name for name in FORGERIES if name != "a reply too many"])
def test_the_verdict_cannot_be_forged(name: str) -> None:
    assert verdict(FORGERIES[name]) != "passed"


def test_a_forged_reply_is_only_another_wrong_result() -> None:
    test = "def check(candidate):\n    assert [candidate() for _ in range(20)] == list(range(20))\n"
    assert verdict(FORGERIES["a reply too many"], test=test) != "passed"


NATIVE = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


@pytest.mark.parametrize(
    "body",
    [
        "import socket; socket.socket()",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['/bin/true'])",
        "import os; assert os.system('true') == 0",
        "open('/etc/passwd').read()",
        "open('/tmp/fastserve-sandbox-test', 'w')",
        "import os; os.listdir('/')",
        "import os; os.kill(os.getppid(), 0)",
        "import os; os.remove('/etc/hostname')",
        "import threading; threading.Thread(target=int).start()",
        "import os; os.open('/dev/null', os.O_RDWR)",
        "import os; open('/proc/self/mem', 'rb+')",
        "import os; open('/proc/1/environ').read()",
        "import os; open(os.path.dirname(os.__file__) + '/site-packages/pip/__init__.py').read()",
        "import os; open(os.__file__, 'a')",
        "import os; os.chmod(os.__file__, 0o777)",
        "import _posixsubprocess, os\n_posixsubprocess.fork_exec([b'/bin/sh'], [b'/bin/sh'], True, (), None,"
        " None, -1, -1, -1, -1, -1, -1, *os.pipe(), False, False, -1, None, None, None, -1, None, False)",
        NATIVE + "assert libc.open(b'/etc/passwd', 0) >= 0",
        NATIVE + "assert libc.socket(2, 1, 0) >= 0",
        NATIVE + "assert libc.fork() >= 0",
        NATIVE + "assert libc.syscall(59, b'/bin/sh', None, None) != -1",
        NATIVE + "assert libc.syscall(319, b'x', 0) >= 0  # memfd_create",
        NATIVE + "assert libc.syscall(425, 8, None) >= 0  # io_uring_setup",
        NATIVE + "assert libc.syscall(101, 16, 1, 0, 0) >= 0  # ptrace",
        NATIVE + "assert libc.syscall(321, 0, None, 0) >= 0  # bpf",
        NATIVE + "assert libc.unshare(0x10000000) == 0",
        NATIVE + "assert libc.prctl(1, 0, 0, 0, 0) == 0",
        NATIVE + "assert libc.setuid(0) == 0 and libc.kill(1, 0) == 0",
    ],
)
def test_the_rest_of_the_machine_is_out_of_reach(body: str) -> None:
    assert verdict(body + "\nreturn 1").startswith(("failed:", "killed"))
    assert not Path("/tmp/fastserve-sandbox-test").exists()


def test_the_tests_are_locked_down_too() -> None:
    assert run("", "open('/etc/passwd')", limits=QUICK) == "failed: PermissionError"


def test_the_environment_of_the_service_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSERVE_SECRET", "hunter2")
    assert verdict("import os; assert 'hunter2' not in str(os.environ); return 1") == "passed"


def test_no_process_is_left() -> None:
    before = _children()
    verdict("import time; time.sleep(60)", Limits(wall_s=1.0))
    assert _children() == before


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_where_the_kernel_cannot_lock_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "unavailable", lambda: "this kernel has no Landlock")
    with pytest.raises(SandboxUnavailableError, match="Landlock"):
        run("x = 1", "assert x == 1")
