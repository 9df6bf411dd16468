"""Grader `unit_test`: runs the code of an answer against the item's tests, in the sandbox."""

import ast
import re
from typing import Final

from deployments.suites.graders.grade import Grade, right_or_wrong
from deployments.suites.item import Item
from deployments.suites.sandbox import sandbox

_FENCE: Final = re.compile(r"```[ \t]*(?:python|py|Python)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def check(item: Item) -> None:
    """Raises ValueError unless `test` is Python code; `entry_point` and `stub` are optional texts.

    With `entry_point` the tests define `check(candidate)`; without it they are plain statements.
    """
    test = item.extra.get("test")
    if not isinstance(test, str) or not test.strip():
        raise ValueError("'test' of grader 'unit_test' must be Python code.")
    try:
        ast.parse(test)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"'test' is not Python code: {error}.") from error
    for key in ("entry_point", "stub"):
        if not isinstance(item.extra.get(key, ""), str):
            raise ValueError(f"'{key}' of grader 'unit_test' must be a text.")


def refusal() -> str:
    """Why this machine cannot lock code down; '' where it can."""
    return sandbox.unavailable()


def grade(item: Item, text: str) -> Grade:
    """1 if the tests run to their end within the limits. Raises SandboxUnavailableError."""
    result = sandbox.run(
        candidate_code(item, text), str(item.extra["test"]), str(item.extra.get("entry_point", ""))
    )
    return right_or_wrong(result == "passed", result)


def candidate_code(item: Item, text: str) -> str:
    """The code in an answer: its block that defines the entry point, else the answer as the stub's body."""
    stub, entry_point = str(item.extra.get("stub", "")), str(item.extra.get("entry_point", ""))
    blocks = _FENCE.findall(text) or [text]
    if not entry_point:
        return "\n".join(blocks)
    defines = re.compile(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(entry_point)}\b", re.MULTILINE)
    for block in blocks:
        if defines.search(block):
            return f"{_before(stub, defines)}\n{block}"
    return stub + blocks[0]


def _before(stub: str, defines: re.Pattern[str]) -> str:
    """What the stub has before the function: imports and helpers that the answer may rely on."""
    found = defines.search(stub)
    return stub[: found.start()] if found else ""
