"""The layers and rooms: imports point downwards and never in a circle, and light things import light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.rooms import Code, cycle

ROOT = Path(__file__).parent.parent
LAYERS = ("policies", "deployments", "serve_app")  # each may import itself and those before it
HEAVY = ("ray", "fastapi", "starlette", "vllm", "sqlalchemy")
MAX_MODULES = 20  # of a package's own
MAX_FUNCTION_LINES = 47
CODE = Code(ROOT, (*LAYERS, "scripts"))
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports anywhere, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield node.module or ""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_never_point_back(path: Path) -> None:
    own = LAYERS.index(path.relative_to(ROOT).parts[0])
    tops = {module.partition(".")[0] for module in imported(ast.parse(path.read_text()))}
    assert not tops & set(LAYERS[own + 1 :])
    assert "scripts" not in tops
    assert "tests" not in tops


@pytest.mark.parametrize("package", sorted(CODE.packages))
def test_the_children_of_a_package_import_each_other_without_a_cycle(package: str) -> None:
    assert cycle(CODE.quotient(package)) == []


def test_a_cycle_between_children_is_found_wherever_its_imports_stand(tmp_path: Path) -> None:
    files = {
        "top/__init__.py": "",
        "top/left/__init__.py": "",
        "top/left/deep.py": "def late():\n    from top import right\n    return right\n",
        "top/right.py": "import top.left.deep\n",
        "top/apart.py": "from top.right import something\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = Code(tmp_path, ["top"])
    assert set(cycle(code.quotient("top"))) == {"top.left", "top.right"}
    assert code.quotient("top")["top.apart"] == {"top.right"}
    assert cycle(code.quotient("top.left")) == []


@pytest.mark.parametrize("package", sorted(CODE.packages))
def test_a_package_has_at_most_twenty_modules_of_its_own(package: str) -> None:
    assert len(CODE.children(package) - CODE.packages) <= MAX_MODULES


@pytest.mark.parametrize("package", sorted(name for name in CODE.packages if name.split(".")[0] in LAYERS))
def test_a_room_says_in_a_sentence_what_it_is_for(package: str) -> None:
    assert CODE.sentence(package)


def private_uses(code: Code, module: str) -> set[str]:
    """Underscore names of other modules that a module imports or reads through an imported module."""
    taken = list(code.imported_names(module))
    private = {f"{source}.{name}" for source, name in taken if name.startswith("_")}
    aliases = {source.rpartition(".")[2]: source for source, name in taken if not name}
    for node in ast.walk(code.trees[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            name = node.attr
            if name.startswith("_") and not name.startswith("__"):
                private.add(f"{aliases[node.value.id]}.{name}")
    return private


@pytest.mark.parametrize("module", sorted(CODE.paths))
def test_no_module_takes_another_ones_underscore_names(module: str) -> None:
    assert not private_uses(CODE, module)


@pytest.mark.parametrize("module", sorted(CODE.paths))
def test_no_function_is_longer_than_a_screen(module: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        node.name
        for node in ast.walk(CODE.trees[module])
        if isinstance(node, functions) and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "policies")], ids=name_of)
def test_policies_know_no_server(path: Path) -> None:
    tops = {module.partition(".")[0] for module in imported(ast.parse(path.read_text()))}
    assert not tops & set(HEAVY)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_annotations_are_no_strings(path: Path) -> None:
    """Ray Serve and pydantic read annotations at run time."""
    tree = ast.parse(path.read_text())
    futures = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    assert not [alias for node in futures for alias in node.names if alias.name == "annotations"]


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh process after `statement`."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_every_policy_module_loads_no_server() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if path.is_relative_to(ROOT / "policies")
    ]
    assert not loaded_by(f"import {', '.join(modules)}") & set(HEAVY)


def test_deciding_loads_no_torch_and_no_server() -> None:
    assert not loaded_by("import deployments.dispatch.dispatcher") & {*HEAVY, "torch"}


def test_ray_loads_no_grammar_of_addresses() -> None:
    """jsonschema does where the package is installed, for 1.6 s of CPU in every process of Ray's."""
    assert "rfc3987_syntax" not in loaded_by("import ray")
