"""The wheel in an environment of its own, outside of any checkout: commands, suites, a pool that serves."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.integration.running import document, free_ports, model_app
from tests.wheel import build_wheel, environment_with

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel."""
    folder: Path = tmp_path_factory.mktemp("wheel")
    return environment_with(build_wheel(folder), folder / "environment")


@pytest.fixture
def environ(installed: Path, tmp_path: Path) -> dict[str, str]:
    """As a user has it who works in `tmp_path` and has never seen a checkout."""
    ports = free_ports(2)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "RAY_", "FASTSERVE"))
    }
    return {
        **kept,
        "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "FASTSERVE_HOME": str(tmp_path / "home"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[1]),
    }


def run(environ: dict[str, str], folder: Path, *words: str) -> str:
    """What a command printed."""
    done = subprocess.run(
        words, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_the_commands_find_what_came_with_the_wheel(
    installed: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    where = "import serve_app, deployments, policies; print(serve_app.__file__)"
    assert run(environ, tmp_path, "python", "-c", where).startswith(str(installed.parent))
    assert "evaluate" in run(environ, tmp_path, "fastserve", "--help")
    assert "--suite" in run(environ, tmp_path, "fastserve", "evaluate", "--help")
    suites = "from serve_app.console.evaluation import DEFAULT_SUITES; print(*DEFAULT_SUITES.glob('*.jsonl'))"
    found = run(environ, tmp_path, "python", "-c", suites).split()
    assert len(found) >= 4
    assert all(path.startswith(str(installed.parent)) for path in found)
    for config in ("cluster.yaml", "cluster.gpu.yaml"):
        assert "is valid" in run(environ, tmp_path, "fastserve", "validate", "--no-engine-flags", config)


@pytest.fixture
def pool(environ: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The URL of a pool that `fastserve up` serves, evaluator and learner too. Commands find its cluster."""
    (port,) = free_ports(1)
    made = document(port, [model_app("alpha"), model_app("beta", accuracy_prior=0.6)], ingresses=1)
    endpoint: dict[str, Any] = made["applications"][0]
    endpoint["args"] |= {"evaluator": True, "learner": True}
    suites = ["suites/customer-service.jsonl"]
    endpoint["deployments"].append({"name": "Evaluator", "user_config": {"suites": suites}})
    endpoint["deployments"].append({"name": "Learner", "user_config": {}})
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(made))
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            ["fastserve", "up", "pool.yaml"], cwd=tmp_path, env=environ, stdout=log, stderr=log
        )
        try:
            _wait(process, tmp_path / "up.log")
            environ["RAY_ADDRESS"] = _cluster_of(process.pid)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120.0)


def _wait(process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(400):
        if "Ctrl-C stops everything." in log.read_text():
            return
        assert process.poll() is None, log.read_text()[-4000:]
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])


def _cluster_of(pid: int) -> str:
    (raylet,) = [one for one in psutil.Process(pid).children(recursive=True) if one.name() == "raylet"]
    return next(word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--gcs-address="))


def test_a_pool_of_the_wheel_serves_and_evaluates(pool: str, environ: dict[str, str], tmp_path: Path) -> None:
    key = (tmp_path / "home" / "key").read_text().strip()
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    answer = httpx.post(
        f"{pool}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {key}"},
        timeout=30.0,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    assert run(environ, tmp_path, "fastserve", "status").count("beta") >= 1
    assert "customer-service" in run(
        environ, tmp_path, "fastserve", "evaluate", "--models", "alpha", "--json"
    )
