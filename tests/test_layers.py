"""The layers: serve_app -> deployments -> policies, never back, and light things import light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("policies", "deployments", "serve_app")  # each may import itself and those before it
HEAVY = ("ray", "fastapi", "starlette", "vllm", "sqlalchemy")
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
