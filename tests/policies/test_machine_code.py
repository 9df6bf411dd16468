"""Compiled code is never older than any source that it was made from."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import policies
from policies.machine_code import CACHE, compiled, open_cache

SOURCES = Path(policies.__file__).parent
FINISH = """
from policies.simulator.queues import DONE, finish
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.workload import synthetic_quality

simulator = QueueSimulator([ModelSpec("a")], synthetic_quality(1, 2, 0))
simulator.queues.pools["accuracy_weight"] = 1.0
simulator.queues.requests["score"] = 0.75
finish(simulator.queues, 0, 0, DONE, 1.0)
print(simulator.queues.requests["reward"][0, 0])
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package, with nothing compiled."""
    shutil.copytree(SOURCES, tmp_path / "policies", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _simulated_reward(folder: Path) -> float:
    """The simulator's reward of a request of score 0.75, by the package in `folder`, in a new process."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-c", FINISH]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return float(run.stdout)


def test_a_changed_reward_reaches_the_simulator(copy: Path) -> None:
    assert _simulated_reward(copy) == pytest.approx(0.75)
    source = copy / "policies" / "reward.py"
    text = source.read_text()
    source.write_text(text.replace("return accuracy_weight * score", "return 5.0 + accuracy_weight * score"))
    assert source.read_text() != text
    assert _simulated_reward(copy) == pytest.approx(5.75)


def test_no_other_file_has_functions_compiled() -> None:
    own = re.compile(r"^\s*(from numba|import numba|@.*njit)", re.MULTILINE)
    files = [
        path
        for package in ("policies", "deployments", "serve_app", "scripts")
        for path in (SOURCES.parent / package).rglob("*.py")
        if own.search(path.read_text())
    ]
    assert files == [SOURCES / "machine_code.py"]


def test_any_changed_file_makes_another_cache(copy: Path, tmp_path: Path) -> None:
    sources, cache = copy / "policies", str(tmp_path / "cache")
    before = open_cache(sources, cache)
    assert open_cache(sources, cache) == before
    with (sources / "simulator" / "spec.py").open("a") as file:
        file.write("# a change\n")
    assert open_cache(sources, cache) != before


def test_old_caches_are_removed_but_for_the_last_used(copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for age_s, name in enumerate(("kernels-new", "kernels-old", "kernels-older")):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (1e9 - age_s, 1e9 - age_s))
    own = open_cache(copy / "policies", str(cache))
    assert sorted(path.name for path in cache.iterdir()) == sorted([own.name, "kernels-new"])


def test_a_place_that_cannot_be_written_to_is_an_error_that_says_what_to_set(copy: Path) -> None:
    occupied = copy / "file"
    occupied.write_text("")
    with pytest.raises(RuntimeError, match="set NUMBA_CACHE_DIR"):
        open_cache(copy / "policies", str(occupied))


def test_the_code_of_functions_elsewhere_is_not_kept() -> None:
    @compiled()
    def twice(x: float) -> float:
        return 2.0 * x

    assert twice(1.5) == 3.0
    assert not list(CACHE.rglob("*twice*"))
