"""Marks in a prompt that hint at code, mathematics or structured output, looked for in one compiled pass."""

from typing import Final

import numpy as np

from policies.compiled import BYTES, compiled, types

CODE_MARKS: Final = ("```", "def ", "():", "import ", "#include", "function", "class ", "return ", "};")
MATHS_MARKS: Final = ("\\frac", "\\(", "$", " = ", "√", "∫", "^", "equation", "solve", "方程", "计算")
STRUCTURE_MARKS: Final = ("json", "schema", "xml", "yaml", "csv", "| ---", "|---", "表格")

# All marks as UTF-8, ordered by their first byte: one after another, where each begins, which hint it gives.
_MARKS: Final = sorted(
    (mark.encode(), hint)
    for hint, marks in enumerate((CODE_MARKS, MATHS_MARKS, STRUCTURE_MARKS))
    for mark in marks
)
_TEXT: Final = np.frombuffer(b"".join(mark for mark, _ in _MARKS), dtype=np.uint8)
_BEGINS: Final = np.cumsum([0] + [len(mark) for mark, _ in _MARKS])
_HINTS: Final = np.array([hint for _, hint in _MARKS])
_FIRST: Final = np.array([sum(mark[0] < byte for mark, _ in _MARKS) for byte in range(257)])


@compiled()
def _stands(raw: bytes, at: int, mark: int) -> bool:
    """Whether a mark stands at a place of the text."""
    begin, size = _BEGINS[mark], _BEGINS[mark + 1] - _BEGINS[mark]
    same = 1  # the first byte is known to be
    while same < size and at + same < len(raw) and raw[at + same] == _TEXT[begin + same]:
        same += 1
    return same == size


@compiled(types.UniTuple(types.boolean, 3)(BYTES))
def hints(raw: bytes) -> tuple[bool, bool, bool]:
    """Whether a lower-case text, as UTF-8, has marks of code, of mathematics, of structure."""
    present = np.zeros(3, dtype=np.bool_)
    for at in range(len(raw)):
        byte = raw[at]
        for mark in range(_FIRST[byte], _FIRST[byte + 1]):
            if not present[_HINTS[mark]] and _stands(raw, at, mark):
                present[_HINTS[mark]] = True
    return present[0], present[1], present[2]
