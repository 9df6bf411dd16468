"""How the loops of a decision are compiled: when their module is imported, never on a request.

The machine code is cached beside the source, or where NUMBA_CACHE_DIR says. The cache follows changes of
the one file that a function stands in: a compiled function refers to no constant or function of another
file of ours but policies.prefetch. Copies of constants are held equal by a test.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types

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
