"""What the tests themselves must keep to: none imports another, and none asserts on the clock on the wall."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("*.py"))
CLOCKS = {"time", "monotonic", "perf_counter", "monotonic_ns", "perf_counter_ns", "time_ns"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules_imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_test_file(module: str) -> bool:
    """Whether a part of a dotted name below `tests` is a test file or a conftest."""
    parts = module.split(".")
    return parts[0] == "tests" and any(part.startswith("test_") or part == "conftest" for part in parts)


def is_clock(node: ast.AST) -> bool:
    """A call of a clock: `time.monotonic()`, `loop.time()`, `perf_counter()`."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in CLOCKS


def is_duration(node: ast.AST, durations: set[str]) -> bool:
    """Whether an expression holds a difference to a clock, or a name that one was put into."""
    parts = list(ast.walk(node))
    differences = [part for part in parts if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub)]
    return any(isinstance(part, ast.Name) and part.id in durations for part in parts) or any(
        is_clock(part) for difference in differences for part in ast.walk(difference)
    )


def receivers(node: ast.AST) -> tuple[list[ast.AST], set[str]]:
    """The expressions that a statement puts somewhere, and the names that they go to."""
    if isinstance(node, ast.Assign):
        names = [name for target in node.targets for name in ast.walk(target)]
        return [node.value], {name.id for name in names if isinstance(name, ast.Name)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        owner = node.func.value
        return list(node.args), {owner.id} if isinstance(owner, ast.Name) else set()
    return [], set()


def names_of_durations(function: Function) -> set[str]:
    """Names that hold a time which passed: assigned, or appended to a list, or made of such names."""
    durations: set[str] = set()
    before = None
    while before != len(durations):
        before = len(durations)
        for node in ast.walk(function):
            values, names = receivers(node)
            if any(is_duration(value, durations) for value in values):
                durations |= names
    return durations


def asserts_on_time(function: Function) -> bool:
    durations = names_of_durations(function)
    checks = [node.test for node in ast.walk(function) if isinstance(node, ast.Assert)]
    return any(is_duration(test, durations) or any(map(is_clock, ast.walk(test))) for test in checks)


def may_hold_time(function: Function) -> bool:
    """Marked as a test of real time, or run on a virtual clock."""
    marks = [ast.unparse(decorator) for decorator in function.decorator_list]
    return "pytest.mark.timing" in marks or "virtual_time" in marks


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_imports_another_test_file(path: Path) -> None:
    assert [name for name in modules_imported(ast.parse(path.read_text())) if is_test_file(name)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_time_that_passed_is_asserted_only_where_it_is_marked(path: Path) -> None:
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, FUNCTIONS)]
    assert [f.name for f in functions if asserts_on_time(f) and not may_hold_time(f)] == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("assert time.monotonic() - began_s < 5", True),
        ("took_s = time.perf_counter() - began_s\n    assert took_s < 1", True),
        ("times.append(loop.time() - began_s)\n    assert max(times) < 1", True),
        (
            "times.append((1, time.monotonic() - at_s))\n    late = [t for t in times]\n    assert not late",
            True,
        ),
        ("assert monotonic() < deadline_s", True),
        ("record = Record(time.time())\n    assert record.name", False),
        ("took_s = 3 - 1\n    assert took_s < 5", False),
    ],
)
def test_an_assertion_on_time_is_recognised(body: str, expected: bool) -> None:
    (function,) = ast.parse(f"def test_it():\n    {body}").body
    assert isinstance(function, FUNCTIONS)
    assert asserts_on_time(function) is expected
