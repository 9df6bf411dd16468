"""An instruction that numba lacks: ask in advance for memory of a table that no cache holds."""

from typing import Any, Final

from llvmlite import ir
from numba import types
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
