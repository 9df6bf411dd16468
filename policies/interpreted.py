"""Functions that policies.machine_code would compile, as the Python that they are; numba is not loaded."""

from collections.abc import Callable
from typing import Any, Self, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class _Nothing:
    """In place of every type, and of what is made of types: nobody reads a signature here."""

    def __getattr__(self, name: str) -> Self:
        return self

    def __call__(self, *parts: object, **options: object) -> Self:
        return self


types: Any = _Nothing()
BYTES: Any = types


def array(element: Any, dimensions: int = 1) -> Any:
    """See policies.machine_code."""
    return types


def readonly(element: Any, dimensions: int = 1) -> Any:
    """See policies.machine_code."""
    return types


def prefetch(table: Any, row: Any, column: Any) -> None:
    """Nothing: there is no time to be won here."""


def compiled(*signatures: Any, fused: bool = True, instead: Any = None) -> Callable[[_F], _F]:
    """The function itself, or what may stand in for it where it would be slow as Python."""
    return lambda function: function if instead is None else instead
