"""Runs a module of this project in a process of its own: bytes in, bytes out, bounded threads and time.

The process ends with the one that asked for it, however that ends: it holds the end of a pipe.
"""

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).resolve().parent.parent
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ApartError(RuntimeError):
    """The process did not end well; the message is the last line it wrote."""


async def run_apart(
    module: str,
    data: bytes,
    *arguments: str,
    threads: int,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """What `python -m MODULE INPUT RESULT ARGUMENTS` wrote to RESULT, with `data` in INPUT.

    Raises ApartError where it fails, TimeoutError after `timeout_s`; the process ends either way.
    """
    path = os.pathsep.join(filter(None, (str(_PROJECT), os.environ.get("PYTHONPATH"))))
    limits = {**dict.fromkeys(_THREADS, str(threads)), **(environment or {}), "PYTHONPATH": path}
    with tempfile.TemporaryDirectory(prefix="fastserve-apart-") as folder:
        source, result = Path(folder, "input"), Path(folder, "result")
        await asyncio.to_thread(source.write_bytes, data)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, str(source), str(result), *arguments),
            stdin=asyncio.subprocess.PIPE,  # held open until here all is over
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **limits},
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(timeout_s):
                said = await process.stderr.read()
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            lines = said.decode(errors="replace").strip().splitlines()
            raise ApartError(
                f"'{module}' ended with {process.returncode}: {lines[-1] if lines else 'killed'}"
            )
        return await asyncio.to_thread(result.read_bytes)


def end_with_parent() -> None:
    """For the module that runs apart: end at once when its standard input does."""
    threading.Thread(target=_end_with_input, name="end-with-parent", daemon=True).start()


def _end_with_input() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock would be held while Python ends
    os._exit(1)
