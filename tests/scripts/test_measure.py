"""measure.py: what it counts, on small code made for it."""

from pathlib import Path

import pytest

from scripts.measure import deciders, function_lines, repeats, request_types, sizes, table_protocols
from scripts.rooms import Code

STEPS = """
    {a} = read({b})
    {a}.sort()
    for item in {a}:
        item.x = {c}
    {a}.close()
    return {a}.y
"""


def code(root: Path, **files: str) -> Code:
    (root / "top").mkdir()
    (root / "top" / "__init__.py").write_text("")
    for name, text in files.items():
        (root / "top" / f"{name}.py").write_text(text)
    return Code(root, ["top"])


def test_the_same_steps_under_other_names_are_one_repeated_shape(tmp_path: Path) -> None:
    left = "def f(b):" + STEPS.format(a="rows", b="b", c=1)
    right = "X = 1\n\n\ndef g(path):" + STEPS.format(a="lines", b="path", c="'two'")
    other = "def h(b):" + STEPS.format(a="rows", b="b", c=1).replace("sort", "reverse")
    made = code(tmp_path, left=left, right=right, other=other)
    assert repeats(made) == [["top/left.py:2", "top/right.py:5"]]


def test_one_function_does_not_repeat_itself(tmp_path: Path) -> None:
    lines = "".join(f"    a{i} = f(b{i})\n" for i in range(9))
    assert repeats(code(tmp_path, one=f"def g():\n{lines}")) == []


def test_functions_are_measured_with_their_docstrings(tmp_path: Path) -> None:
    made = code(tmp_path, one='@cached\ndef f() -> int:\n    """Says."""\n    return 1\n')
    assert function_lines(made) == [3]
    assert sizes([5, 1, 3]) == {"count": 3, "median": 3, "p90": 3, "max": 5}


def test_who_builds_or_parses_the_decider_is_found_and_who_documents_it_is_not(tmp_path: Path) -> None:
    made = code(
        tmp_path,
        builds='NAME = f"learned@{7}"\n',
        parses='name = text.partition(";")[0]\n',
        documents='"""Such as `learned@7;sticky`."""\n',
    )
    assert deciders(made) == ["top.builds", "top.parses"]


def test_protocols_of_the_table_are_found(tmp_path: Path) -> None:
    text = "class TableApi(Protocol): ...\n\n\nclass Table: ...\n\n\nclass Clock(Protocol): ...\n"
    assert table_protocols(code(tmp_path, one=text)) == ["top.one.TableApi"]


def test_the_types_of_a_request_are_the_first_column_of_their_table() -> None:
    rows = "| `Call` (`body/calls.py`) | `Calls` |\n| `Job` | x |\n"
    assert request_types(f"Words\n\n| type | made by |\n|---|---|\n{rows}\nMore") == ["Call", "Job"]
    with pytest.raises(ValueError, match="no table whose first column is 'type'"):
        request_types("| word | means |\n")
