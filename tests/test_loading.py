"""Nothing from outside is loaded in a way that could run it: what the code says, and what it does."""

import ast
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deployments.keys.file import read_key_file
from deployments.table.statistics import TableStatistics
from policies.latency.model import LatencyModel
from policies.learned.policy import LearnedPolicy
from policies.quality.model import QualityModel
from serve_app.cluster_file.document import parse_document

ROOT = Path(__file__).parent.parent
FILES = [
    path for part in ("serve_app", "deployments", "policies") for path in sorted((ROOT / part).rglob("*.py"))
]
SANDBOX = "deployments/suites/sandbox"  # runs code of answers, in a process that the kernel locks down
MODULES = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"})
CALLS = frozenset({"eval", "exec", "compile", "__import__"})


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What a module does that may run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {one.name}" for one in node.names if one.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            yield from unsafe_call(node)


def unsafe_call(node: ast.Call) -> Iterator[str]:
    """The same of one call."""
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in CALLS:
        yield name
    if name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}:
        yield name
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only"
    if name in {"np.load", "numpy.load"} and given.get("allow_pickle") == "True":
        yield "np.load with allow_pickle"
    if given.get("shell") == "True" or given.get("trust_remote_code") == "True":
        yield f"{name} with shell or trust_remote_code"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_loads_in_a_way_that_could_run_what_it_reads(path: Path) -> None:
    found = set(unsafe(ast.parse(path.read_text())))
    if str(path.relative_to(ROOT)).startswith(SANDBOX):
        found -= CALLS
    assert found == set()


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from dill import loads", "yaml.load(x)", "torch.load(x)"),
        *("np.load(x, allow_pickle=True)", "subprocess.run(x, shell=True)", "eval(x)", "os.system(x)"),
        "f(trust_remote_code=True)",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(unsafe(ast.parse(line)))


class Bomb:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self._mark, "w")


def bombs(mark: Path) -> dict[str, bytes]:
    """Files that run code where they are loaded carelessly."""
    arrays, weights = io.BytesIO(), io.BytesIO()
    np.savez(arrays, weights=np.array([Bomb(mark)], dtype=object))
    torch.save({"weights": Bomb(mark)}, weights)
    return {"pickle": pickle.dumps(Bomb(mark)), ".npz": arrays.getvalue(), ".pt": weights.getvalue()}


LOADERS: dict[str, Callable[[bytes], object]] = {
    "policy": LearnedPolicy.from_bytes,
    "quality": QualityModel.from_bytes,
    "latency": LatencyModel.from_bytes,
    "statistics": TableStatistics.load,
}


@pytest.mark.parametrize("kind", ["pickle", ".npz", ".pt"])
@pytest.mark.parametrize("loader", LOADERS)
def test_an_artifact_that_would_run_code_is_refused_and_runs_nothing(
    loader: str, kind: str, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(Exception):  # noqa: B017, PT011 - each format has its own
        LOADERS[loader](bombs(mark)[kind])
    assert not mark.exists()


def test_the_bombs_are_live(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    pickle.loads(bombs(mark)["pickle"]).close()
    assert mark.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"])
def test_a_yaml_tag_that_would_run_code_is_refused_and_runs_nothing(tag: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "keys.yaml"
    text = f"keys: {tag} ['{mark}']\n"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ValueError, match="is not YAML"):
        read_key_file(file)
    with pytest.raises(Exception):  # noqa: B017, PT011 - a document says it its own way
        parse_document(text.encode())
    assert not mark.exists()
