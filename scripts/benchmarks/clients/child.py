"""What the children share: where the endpoint is, and how a case is told. Needs the standard library only."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Final

URL: Final = os.environ.get("CLIENT_URL", "")
KEY: Final = os.environ.get("CLIENT_KEY", "")
MODEL: Final = "mock"
SLOW: Final = "slow"  # writes long and slowly: its stream is abandoned
PIECES: Final = 3  # of a stream, before it is abandoned
HELLO: Final = "Hello there"
ASKED: Final = "What is the weather in Paris"


def check(holds: object, what: str) -> None:
    """Raises AssertionError where something does not hold."""
    if not holds:
        raise AssertionError(what)


def tell(case: str, error: str = "") -> None:
    """One case's result, as a line for the parent."""
    print(json.dumps({"case": case, "ok": not error, "error": error[:600]}), flush=True)


def run(*cases: Callable[[], object]) -> None:
    """Run the cases one after the other, under the names of their functions; one that raises has failed."""
    for case in cases:
        name = case.__name__
        try:
            case()
        except BaseException as error:  # whatever a client raises, the other cases are tried
            traceback.print_exc(file=sys.stderr)
            tell(name, f"{type(error).__name__}: {error}")
        else:
            tell(name)


def begin(pieces: Iterable[object]) -> None:
    """Read the first pieces of a stream that is then abandoned."""
    for count, _ in enumerate(pieces):
        if count == PIECES:
            return


def raises(kinds: type[BaseException] | tuple[type[BaseException], ...], call: Callable[[], object]) -> str:
    """The text of the error that `call` raises. Raises AssertionError where it does not."""
    try:
        call()
    except kinds as error:
        return str(error)
    raise AssertionError(f"expected {kinds}, nothing was raised")
