"""The process inside the sandbox: limits, doors shut, code and tests run. Standard library only."""

import json
import os
import resource
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

REFUSED = (
    "socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile",
    "os.kill", "os.putenv", "pty.", "ctypes.", "shutil.", "os.remove", "os.rename", "os.rmdir", "os.chmod",
    "os.chown", "os.link", "os.symlink", "os.truncate", "os.mkdir", "os.walk",
    "signal.pthread_kill", "resource.", "sys.addaudithook", "gc.", "mmap.",
)  # fmt: skip


def limit(limits: dict[str, Any]) -> None:
    """Set the kernel's limits for this process and all it might start."""
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def make_guard(library: str) -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook: refuses what tests of pure functions never need. `library`: a folder, ends on '/'.

    All it needs is in its closure, where the code under test cannot simply replace it.
    """
    refused, writing = REFUSED, os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def of_library(path: Any) -> bool:
        return isinstance(path, str) and f"{path}/".startswith(library) and ".." not in path

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(refused):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open":
            path, _, flags = arguments
            if not of_library(path) or not isinstance(flags, int) or flags & writing:
                raise PermissionError("files are not allowed here")
        elif event in ("os.listdir", "os.scandir") and not of_library(arguments[0]):
            raise PermissionError("folders are not allowed here")

    return guard


def run_job(job: dict[str, str]) -> str:
    """'passed', or why not."""
    namespace: dict[str, Any] = {"__name__": "__candidate__"}
    try:
        exec(_compiled(job["code"], "answer"), namespace)
        exec(_compiled(job["test"], "test"), namespace)
        if job["entry_point"]:
            namespace["check"](namespace[job["entry_point"]])
    except BaseException as error:  # SystemExit too: leaving early is no pass
        return f"failed: {type(error).__name__}"[:200]
    return "passed"


def _compiled(code: str, name: str) -> CodeType:
    return compile(code, name, "exec")


def main() -> None:
    """Read the job from stdin, run it, write the verdict to the descriptor that stdout was."""
    job = json.load(sys.stdin)
    verdict = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.setrecursionlimit(2000)
    limit(job["limits"])
    sys.addaudithook(make_guard(os.path.dirname(os.__file__) + os.sep))
    result = run_job(job)
    os.write(verdict, result.encode())
    os._exit(0)


if __name__ == "__main__":
    main()
