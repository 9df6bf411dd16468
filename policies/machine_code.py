"""Compiles the loops of a decision and of the simulator with numba, and keeps their machine code.

The cache stands beside the sources, or where NUMBA_CACHE_DIR says, in a directory named by a digest of every
source file of this package: a change of any of them compiles all functions again, so that no machine code
outlives a constant or a function that it was made from.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getfile
from pathlib import Path
from typing import Any, Final, TypeVar

from llvmlite import ir
from numba import config, njit
from numba import types as types  # which policies.compiled hands on
from numba.extending import intrinsic

_SOURCES: Final = Path(__file__).resolve().parent
_PREFIX: Final = "kernels-"


def _digest(sources: Path) -> str:
    """Names and contents of all source files, hashed."""
    digest = hashlib.sha256()
    for path in sorted(sources.rglob("*.py")):
        digest.update(f"{path.relative_to(sources)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def open_cache(sources: Path, configured: str) -> Path:
    """The directory of this digest, made where the first of the possible places can be written to."""
    beside = [sources / "__pycache__", Path.home() / ".cache" / "fastserve"]
    for root in [Path(configured)] if configured else beside:
        directory = root / f"{_PREFIX}{_digest(sources)}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            os.utime(directory)  # the time of last use
            _remove_old(root, directory)
            return directory
    raise RuntimeError(
        f"Compiled functions cannot be kept in '{configured or sources}': set NUMBA_CACHE_DIR to a directory "
        f"that this process may write to."
    )


def _remove_old(root: Path, current: Path) -> None:
    """Remove all other digests' directories but the last used: an upgrade runs two versions for a while."""
    last_used: dict[Path, float] = {}
    for directory in root.glob(f"{_PREFIX}*"):
        try:
            last_used[directory] = directory.stat().st_mtime
        except FileNotFoundError:  # another process removed it
            continue
    last_used.pop(current, None)
    for directory in sorted(last_used, key=lambda path: last_used[path])[:-1]:
        shutil.rmtree(directory, ignore_errors=True)


CACHE: Final = open_cache(_SOURCES, config.CACHE_DIR)


@contextmanager
def _cache_directory() -> Iterator[None]:
    """Keep the code of what is decorated inside in CACHE; other libraries keep theirs elsewhere."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(CACHE)
    try:
        yield
    finally:
        config.CACHE_DIR = before


_I8P, _I32, _I64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
_PREFETCH: Final = ir.FunctionType(ir.VoidType(), [_I8P, _I32, _I32, _I32])
_HOW: Final = (_I32(0), _I32(3), _I32(1))  # to read, to keep, data


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing: Any, table: Any, row: Any, column: Any) -> Any:
    """Start loading the cache line of `table[row, column]`, both indices >= 0; waits for nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(table)(context, builder, arguments[0])
        place = builder.ptrtoint(array.data, _I64)
        for axis, index in enumerate(arguments[1:]):
            wide = index if index.type == _I64 else builder.zext(index, _I64)
            step = builder.mul(wide, builder.extract_value(array.strides, axis))
            place = builder.add(place, step)
        call = builder.module.declare_intrinsic("llvm.prefetch", [_I8P], _PREFETCH)
        builder.call(call, [builder.inttoptr(place, _I8P), *_HOW])
        return context.get_dummy_value()

    return types.void(table, row, column), generate


_F = TypeVar("_F", bound=Callable[..., Any])

BYTES = types.Bytes(types.uint8, 1, "C")


def array(element: Any, dimensions: int = 1) -> Any:
    """The type of a C-contiguous array that is written to or returned, for signatures."""
    return types.Array(element, dimensions, "C")


def readonly(element: Any, dimensions: int = 1) -> Any:
    """The type of a C-contiguous array that is only read, and so may be write-protected."""
    return types.Array(element, dimensions, "C", readonly=True)


def compiled(*signatures: Any, fused: bool = True, instead: Any = None) -> Callable[[_F], _F]:
    """Compile for these signatures now; without one, for each combination of types that it is called with.

    `fused` lets products and sums be one operation, which changes the last bit of a number; nothing else of
    floating-point arithmetic is relaxed. A function of another package is compiled in every process anew:
    the digest of the cache does not cover its sources. `instead` is what policies.interpreted takes.
    """

    def decorate(function: _F) -> _F:
        cached = _SOURCES in Path(getfile(function)).resolve().parents
        options = {"cache": cached, "fastmath": {"contract"} if fused else False}
        with _cache_directory():
            made: _F = njit(list(signatures) or None, **options)(function)
        return made

    return decorate
