"""What test_apart runs in a process of its own: `echo`, `fail`, or `sleep` after saying its process id."""

import os
import sys
import time
from pathlib import Path

from deployments.child_process import end_with_parent, run_apart

MODULE = "tests.deployments.apart_module"


async def ask(what: str, path: Path, timeout_s: float = 60.0) -> bytes:
    """Run this module; `path` is where `sleep` writes its process id."""
    return await run_apart(MODULE, b"data", what, str(path), threads=1, timeout_s=timeout_s)


def main() -> None:
    """`python -m tests.deployments.apart_module INPUT RESULT WHAT PATH`."""
    end_with_parent()
    source, result, what, path = sys.argv[1:]
    if what == "fail":
        raise SystemExit("it does not fit")
    if what == "sleep":
        written = Path(f"{path}.part")
        written.write_text(str(os.getpid()))
        written.rename(path)
        time.sleep(60.0)
    Path(result).write_bytes(Path(source).read_bytes())


if __name__ == "__main__":
    main()
