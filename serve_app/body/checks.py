"""Strict checks of single fields: no booleans for numbers, no numbers for text, nothing out of range."""

from collections.abc import Callable, Collection
from typing import Any

from serve_app.http.errors import ApiError, bad_request

Check = Callable[[Any, str], None]

MAX_INT = 2**53


def _wrong_type(param: str, expected: str) -> ApiError:
    return bad_request(f"'{param}' must be {expected}.", param, "invalid_type")


def text(value: Any, param: str, longest: int = 0) -> str:
    """A string, at most `longest` characters where that is above 0."""
    if type(value) is not str:
        raise _wrong_type(param, "a string")
    if longest and len(value) > longest:
        raise bad_request(f"'{param}' is over {longest} characters.", param)
    return value


def flag(value: Any, param: str) -> None:
    """true or false."""
    if type(value) is not bool:
        raise _wrong_type(param, "true or false")


def record(value: Any, param: str) -> dict[str, Any]:
    """A JSON object."""
    if type(value) is not dict:
        raise _wrong_type(param, "an object")
    return value


def array(value: Any, param: str, most: int, least: int = 0) -> list[Any]:
    """A JSON array of `least` to `most` entries."""
    if type(value) is not list:
        raise _wrong_type(param, "an array")
    if not least <= len(value) <= most:
        raise bad_request(f"'{param}' has {len(value)} entries, must have {least} to {most}.", param)
    return value


def whole(low: int, high: int = MAX_INT) -> Check:
    """An integer from `low` to `high`."""

    def check(value: Any, param: str) -> None:
        if type(value) is not int:
            raise _wrong_type(param, f"an integer from {low} to {high}")
        if not low <= value <= high:
            raise bad_request(f"'{param}' is out of range, must be from {low} to {high}.", param)

    return check


def number(low: float, high: float, *, above: bool = False) -> Check:
    """A number from `low` (or above it) to `high`. The parser has refused NaN and infinities."""

    def check(value: Any, param: str) -> None:
        if type(value) is not float and type(value) is not int:
            raise _wrong_type(param, f"a number from {low:g} to {high:g}")
        if not low <= value <= high or (above and value == low):
            raise bad_request(f"'{param}' is out of range, must be from {low:g} to {high:g}.", param)

    return check


def one_of(names: Collection[str]) -> Check:
    """One of some strings."""

    def check(value: Any, param: str) -> None:
        if type(value) is not str or value not in names:
            raise bad_request(
                f"'{param}' must be one of {', '.join(repr(name) for name in sorted(names))}.", param
            )

    return check


def words(most: int, longest: int) -> Check:
    """A string, or an array of at most `most` strings of at most `longest` characters."""

    def check(value: Any, param: str) -> None:
        if type(value) is str:
            value = [value]
        for index, entry in enumerate(array(value, param, most)):
            text(entry, f"{param}[{index}]", longest)

    return check


def instead(newer: str) -> Check:
    """A field that OpenAI replaced by another one: engines would pass over it in silence."""

    def check(value: Any, param: str) -> None:
        raise bad_request(f"'{param}' is not accepted; send '{newer}'.", param, "unsupported_parameter")

    return check


def refused(value: Any, param: str) -> None:
    """A field that only the server sets."""
    raise bad_request(f"'{param}' is not accepted.", param, "unsupported_parameter")
