"""Writes docs/rooms.md, the packages of each layer and their imports: `python -m scripts.rooms [--check]`.

A room is a package of a layer, or a module that stands in a layer's own folder. What a room is for is the
first sentence of its docstring; the arrows are the imports in its files.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

from scripts.pages import write_or_check

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = Path("docs/rooms.md")
LAYERS: Final = ("serve_app", "deployments", "policies")  # each may import itself and those after it
_HEAD: Final = """# Rooms

The packages of each layer, and the modules that stand in a layer's own folder: what each is for, whom it
imports and who imports it. Layers import only downwards (`serve_app -> deployments -> policies`), and inside
a package its modules and subpackages import each other without a cycle; `tests/test_layers.py` holds both.
This page is written by `python -m scripts.rooms`.
"""


class Code:
    """The parsed modules of some top-level packages by dotted name; a package is its `__init__.py`."""

    def __init__(self, root: Path, tops: Iterable[str]) -> None:
        self.root = root
        paths = [path for top in tops for path in sorted((root / top).rglob("*.py"))]
        self.paths = {_dotted(path.relative_to(root)): path for path in paths}
        self.trees = {name: ast.parse(path.read_text()) for name, path in self.paths.items()}
        self.packages = {name for name, path in self.paths.items() if path.name == "__init__.py"}
        self.imports = {name: {target for target, _ in self.imported_names(name)} for name in self.paths}

    def imported_names(self, module: str) -> Iterator[tuple[str, str]]:
        """(module, name taken from it) of each import; the name is empty where the module itself is taken."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names if alias.name in self.paths)
            elif isinstance(node, ast.ImportFrom) and node.module in self.paths:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield (inner, "") if inner in self.paths else (node.module or "", alias.name)

    def children(self, package: str) -> set[str]:
        """Modules and packages that stand directly in a package."""
        return {name for name in self.paths if name.rpartition(".")[0] == package}

    def quotient(self, package: str) -> dict[str, set[str]]:
        """Which children of a package import which others, anywhere below them."""
        graph: dict[str, set[str]] = {child: set() for child in self.children(package)}
        for module in self.paths:
            importer = _child(package, module)
            if importer:
                graph[importer] |= {_child(package, target) for target in self.imports[module]}
        return {child: targets - {child, ""} for child, targets in graph.items()}

    def room(self, module: str) -> str:
        """The room that a module stands in: its package, or itself where that is a layer."""
        if module in self.packages:
            return module
        package = module.rpartition(".")[0]
        return package if "." in package else module

    def rooms(self) -> dict[str, set[str]]:
        """Every room but the layers themselves, with the rooms that it imports."""
        graph: dict[str, set[str]] = {self.room(module): set() for module in self.paths if "." in module}
        for module in self.paths:
            if "." in module:
                graph[self.room(module)] |= {self.room(t) for t in self.imports[module] if "." in t}
        return {room: targets - {room} for room, targets in graph.items()}

    def sentence(self, module: str) -> str:
        """The first sentence of a module's docstring; empty without one."""
        text = " ".join((ast.get_docstring(self.trees[module]) or "").split("\n\n")[0].split())
        first, stop, _ = text.partition(". ")
        return first + "." if stop else text


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes of one cycle in a graph, in order; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _child(package: str, module: str) -> str:
    """The child of a package that a module belongs to; empty outside it."""
    inside = module.removeprefix(f"{package}.")
    return f"{package}.{inside.partition('.')[0]}" if inside != module else ""


def _picture(code: Code, layer: str) -> str:
    """The imports between the children of a layer that are packages, as a mermaid graph."""
    graph = {child: targets for child, targets in code.quotient(layer).items() if child in code.packages}
    lines = [f"  {_short(child)}" for child in sorted(graph)]
    for child, targets in sorted(graph.items()):
        lines += [f"  {_short(child)} --> {_short(target)}" for target in sorted(targets & graph.keys())]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


def _short(room: str) -> str:
    return room.rpartition(".")[2]


def _table(code: Code, layer: str) -> str:
    graph = code.rooms()
    lines = ["| room | modules | what it is for | imports | is imported by |", "|---|---|---|---|---|"]
    for room in sorted(name for name in graph if name.startswith(f"{layer}.")):
        modules = len(code.children(room) - code.packages) or 1
        users = {other for other, targets in graph.items() if room in targets}
        cells = [f"`{room}`", str(modules), code.sentence(room), _listed(graph[room]), _listed(users)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _listed(rooms: Iterable[str]) -> str:
    return ", ".join(f"`{room}`" for room in sorted(rooms)) or "-"


def page() -> str:
    """The whole page."""
    code = Code(ROOT, LAYERS)
    parts = [_HEAD]
    for layer in LAYERS:
        parts += [f"## `{layer}`\n", code.sentence(layer) + "\n", _picture(code, layer) + "\n"]
        parts.append(_table(code, layer) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
