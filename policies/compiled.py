"""How the loops of a decision are compiled: when their module is imported, never on a request.

The machine code is cached beside the source, or where NUMBA_CACHE_DIR says. The cache follows changes of
the one file that a function stands in: a compiled function refers to no constant or function of another
file of ours but policies.compiled. Copies of constants are held equal by a test.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

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
    """The type of one that is only read, and so may be read-only."""
    return types.Array(element, dimensions, "C", readonly=True)


def compiled(*signatures: Any) -> Callable[[_F], _F]:
    """Compile for these signatures now; without one, as a part of the functions that call it.

    Products and sums may be fused, which changes the last bit of a number; nothing else of floating-point
    arithmetic is relaxed.
    """
    decorate: Callable[[_F], _F] = njit(list(signatures) or None, cache=True, fastmath={"contract"})
    return decorate
