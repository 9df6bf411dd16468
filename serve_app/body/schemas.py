"""A JSON schema that an engine is to compile: what it may hold, so that compiling it takes no time.

Bounds are on what makes grammar compilers slow (`docs/security.md` has the times): patterns with their
repetitions written out, values of `enum`, properties of one object. Repeated items and lengths cost nothing.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from serve_app.http.errors import bad_request

MOST_NODES: Final = 10_000
MOST_PROPERTIES: Final = 256  # of one object
MOST_VALUES: Final = 1_000  # of all `enum` together
MOST_ATOMS: Final = 256  # of all patterns together, repetitions written out

_DEAR: Final = frozenset({"properties", "enum", "pattern", "patternProperties"})
_REPEATED: Final = re.compile(r"\{(\d{0,9})(?:,(\d{0,9}))?\}")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


def check_cost(value: object, param: str) -> None:
    """Raises ApiError (400) naming the bound for a schema that is dear to compile."""
    values = atoms = 0
    for nodes, node in enumerate(_nodes(value), 1):
        if nodes > MOST_NODES:
            raise _too_much(param, "objects", MOST_NODES)
        if _DEAR.isdisjoint(node):  # nearly all of them, and there may be many
            continue
        properties = node.get("properties")
        if isinstance(properties, dict) and len(properties) > MOST_PROPERTIES:
            raise _too_much(param, "properties in one object", MOST_PROPERTIES)
        enum = node.get("enum")
        values += len(enum) if isinstance(enum, list) else 0
        if values > MOST_VALUES:
            raise _too_much(param, "values in 'enum'", MOST_VALUES)
        atoms += sum(map(atoms_of, _patterns(node)))
        if atoms > MOST_ATOMS:
            raise _too_much(param, "atoms in patterns, repetitions written out", MOST_ATOMS)


def atoms_of(pattern: str) -> int:
    """Characters and classes of a regular expression with its counted repetitions written out."""
    groups, at = [[0, 0]], 0  # atoms of each open group so far, and of its last part
    while at < len(pattern):
        here = pattern[at]
        repeated = _REPEATED.match(pattern, at)
        if here == "(":
            groups.append([0, 0])
        elif here == ")" and len(groups) > 1:
            inner, _ = groups.pop()
            groups[-1] = [groups[-1][0] + inner, inner]
        elif repeated:
            most = max(int(number or 0) for number in repeated.groups(default="0"))
            groups[-1][0] += groups[-1][1] * max(0, most - 1)
            at = repeated.end() - 1
        elif here not in "*+?|^$":
            groups[-1] = [groups[-1][0] + 1, 1]
            found = _CLASS.match(pattern, at)
            at = found.end() - 1 if found else at + (here == "\\")
        at += 1
    return sum(total for total, _ in groups)


def _nodes(value: object) -> Iterator[dict[str, Any]]:
    """Every object inside, itself included."""
    left = [value]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _patterns(node: dict[str, Any]) -> Iterator[str]:
    own, others = node.get("pattern"), node.get("patternProperties")
    if isinstance(own, str):
        yield own
    if isinstance(others, dict):
        yield from others


def _too_much(param: str, what: str, most: int) -> Exception:
    return bad_request(f"'{param}' has more than {most} {what}.", param)
