"""Measures the code: `python -m scripts.measure [--json FILE]` prints sizes, types of a request, repeats."""

import argparse
import ast
import copy
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from scripts.benchmarks.report import Bar, Report, bar, finish
from scripts.rooms import LAYERS, ROOT, Code
from serve_app.console.machine import machine
from serve_app.console.text_table import print_table

ARCHITECTURE: Final = ROOT / "docs" / "architecture.md"
LEAST_STATEMENTS: Final = 6  # of a shape that counts as repeated
MAX_MEDIAN_LINES: Final = 6
MAX_FUNCTION_LINES: Final = 47
MAX_REQUEST_TYPES: Final = 10
_DECIDER_TEXT: Final = re.compile(r"learned@|;sticky|;fallback=|^;$")
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)

Sizes = dict[str, float]


def sizes(values: Sequence[int]) -> Sizes:
    """Count, median, 90th percentile and maximum."""
    ordered = sorted(values)
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    return {"count": len(ordered), "median": statistics.median(ordered), "p90": p90, "max": ordered[-1]}


def file_lines(code: Code) -> list[int]:
    """Lines of each module; a package's own file counts where it holds code."""
    lines = {name: len(path.read_text().splitlines()) for name, path in code.paths.items()}
    return [
        count for name, count in lines.items() if name not in code.packages or len(code.trees[name].body) > 1
    ]


def function_lines(code: Code) -> list[int]:
    """Lines of each function from its `def` to its end, docstring included."""
    nodes = [node for tree in code.trees.values() for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes]


def classes(code: Code) -> dict[str, list[str]]:
    """The modules that define each class, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in code.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    return found


def request_types(text: str) -> list[str]:
    """The types that carry one request from the ASGI app to the durable record.

    They are the first column of the table in docs/architecture.md whose head begins with `type`. Raises
    ValueError where there is none.
    """
    _, head, rest = text.partition("\n| type |")
    if not head:
        raise ValueError("docs/architecture.md has no table whose first column is 'type'.")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def deciders(code: Code) -> list[str]:
    """Modules that build or parse the text of who decided, such as `learned@7;sticky`."""
    return [name for name, tree in code.trees.items() if any(map(_DECIDER_TEXT.search, _strings(tree)))]


def _strings(tree: ast.AST) -> Iterator[str]:
    """String constants that are no docstrings."""
    nodes = list(ast.walk(tree))
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value


def table_protocols(code: Code) -> list[str]:
    """Protocols of the performance table, as `module.Name`."""
    return [
        f"{module}.{node.name}"
        for module, tree in code.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and "Table" in node.name
        and "Protocol" in map(ast.unparse, node.bases)
    ]


def repeats(code: Code) -> list[list[str]]:
    """Places, as `path:line`, of statements in a row that repeat the shape of others; a list a shape.

    A shape is six statements or more, those inside them counted, without the names of variables and without
    constants; the names of attributes stay.
    """
    places: dict[str, list[tuple[Path, int, int]]] = defaultdict(list)
    for module, tree in code.trees.items():
        path = code.paths[module].relative_to(code.root)
        for block in _blocks(tree):
            for window in _windows(block):
                found = places[_shape(window)]
                last = window[-1].end_lineno or 0
                if not any(path == other and window[0].lineno <= end for other, _, end in found):
                    found.append((path, window[0].lineno, last))
    return [[f"{path}:{line}" for path, line, _ in found] for found in places.values() if len(found) > 1]


def _blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements inside a function, docstrings left out."""
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    for node in {id(inner): inner for function in functions for inner in ast.walk(function)}.values():
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                yield [part for part in block if not _is_docstring(part)]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _windows(block: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """From each statement on the shortest row that holds enough statements."""
    for first in range(len(block)):
        for last in range(first + 1, len(block) + 1):
            window = block[first:last]
            if (
                sum(isinstance(part, ast.stmt) for node in window for part in ast.walk(node))
                >= LEAST_STATEMENTS
            ):
                yield window
                break


class _Shape(ast.NodeTransformer):
    """Variables and constants without their names and values."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("_", node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(None)


def _shape(window: Iterable[ast.stmt]) -> str:
    return "\n".join(ast.dump(_Shape().visit(copy.deepcopy(node))) for node in window)


def measured() -> Report:
    """Everything that is measured, with the bars."""
    rows: list[list[object]] = []
    results: dict[str, object] = {}
    for layer in (*LAYERS, "scripts"):
        code = Code(ROOT, [layer])
        files, functions = sizes(file_lines(code)), sizes(function_lines(code))
        results[layer] = {"lines": sum(file_lines(code)), "files": files, "functions": functions}
        rows.append([layer, sum(file_lines(code)), *files.values(), *functions.values()])
    heads = ["layer", "lines", "files", "median", "p90", "max", "functions", "median", "p90", "max"]
    print_table(heads, rows, "lines of files and functions")
    code = Code(ROOT, LAYERS)
    carried = request_types(ARCHITECTURE.read_text())
    unknown = sorted(set(carried) - classes(code).keys())
    found = {
        "deciders": deciders(code),
        "table_protocols": table_protocols(code),
        "repeats": [", ".join(places) for places in repeats(code)],
    }
    for name, places in found.items():
        print(f"\n{name}:", *places, sep="\n  ")
    return Report(
        "measure", _bars(code, carried, unknown, found), {**results, "request_types": carried, **found}
    )


def _bars(code: Code, carried: list[str], unknown: list[str], found: dict[str, list[str]]) -> tuple[Bar, ...]:
    functions = sizes(function_lines(code))
    return (
        bar("function.median_lines", functions["median"], "<=", MAX_MEDIAN_LINES),
        bar("function.max_lines", functions["max"], "<=", MAX_FUNCTION_LINES),
        bar("request.types", len(carried), "<=", MAX_REQUEST_TYPES),
        bar("request.types_not_in_code", len(unknown), "<=", 0),
        bar("decider.places", len(found["deciders"]), "<=", 1),
        bar("table.protocols", len(found["table_protocols"]), "<=", 1),
        bar("shapes.repeated", len(found["repeats"]), "<=", 0),
    )


def main(argv: list[str]) -> int:
    """Print the measures; returns 1 where a bar failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write bars and results here")
    out = parser.parse_args(argv).json
    return finish(measured(), argv, machine(), out, command=("python", "-m", "scripts.measure"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
