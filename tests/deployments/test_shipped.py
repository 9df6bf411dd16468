"""The wheel is whole: outside any checkout it has the command, built-in models, suites and configs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deployments.shipped import found, shipped
from tests.wheel import ROOT, build_wheel

ELSEWHERE = """
import sys
from pathlib import Path
import deployments
from deployments.evaluation.settings import EvaluatorSettings
from deployments.model.files import prepare_source
from deployments.shipped import found, shipped
from deployments.suites.suite import load_suite
from serve_app.commands.prepare import models_of

site, home = Path(sys.argv[1]), Path(sys.argv[2])
assert Path(deployments.__file__).is_relative_to(site), deployments.__file__
config = found("cluster.yaml")
assert config.is_relative_to(site), config
assert [model.source for model in models_of(config)][-1] == "builtin:tiny"
assert (prepare_source("builtin:tiny", home) / "model.safetensors").is_file()
names = ["suites/customer-service.jsonl", "suites/recommendation.jsonl"]
for path in EvaluatorSettings(suites=names).paths():
    assert path.is_relative_to(site), path
    assert load_suite(path).items
assert shipped("locks/cpu-engine.lock").is_file()
"""


def test_a_file_of_the_working_folder_comes_before_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert found("cluster.yaml") == shipped("cluster.yaml")
    Path("cluster.yaml").touch()
    assert found("cluster.yaml") == Path("cluster.yaml")


def test_a_name_that_nothing_has_stays_as_it_was_given() -> None:
    assert found("missing/suite.jsonl") == Path("missing/suite.jsonl")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    assert wheel.name.startswith("fastserve_dispatch-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, folder: Path, *words: str) -> str:
    """The output of Python with the unpacked wheel before everything else, in a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": str(site), "FASTSERVE_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wheel_has_all_that_fastserve_needs_outside_a_checkout(site: Path, tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(ELSEWHERE)
    run(site, tmp_path, "check.py", str(site), str(tmp_path))


def test_the_command_of_the_wheel_gives_its_help(site: Path, tmp_path: Path) -> None:
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert "fastserve = serve_app.cli:main" in entry.read_text()
    start = "import sys; from serve_app.cli import main; sys.exit(main(['--help']))"
    assert "prepare" in run(site, tmp_path, "-c", start)


def test_the_wheel_has_the_same_packages_as_the_checkout(site: Path) -> None:
    for package in ("serve_app", "deployments", "policies"):
        modules = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert {path for path in modules if not (site / path).is_file()} == set()
