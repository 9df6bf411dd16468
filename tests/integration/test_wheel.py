"""The wheel in an environment of its own, outside of any checkout: commands, suites, a pool that serves."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.running import document, free_ports, model_app
from tests.integration.up import own_environment, printed, up
from tests.wheel import build_wheel, environment_with

_SHIPPED = ("python", "-m", "deployments.shipped")

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel."""
    folder: Path = tmp_path_factory.mktemp("wheel")
    return environment_with(build_wheel(folder), folder / "environment")


@pytest.fixture
def environ(installed: Path, tmp_path: Path) -> dict[str, str]:
    """As a user has it who works in `tmp_path` and has never seen a checkout."""
    return {**own_environment(tmp_path), "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}


def run(environ: dict[str, str], folder: Path, *words: str) -> str:
    """What a command printed."""
    return printed(words, folder, environ)


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
    with up(["fastserve"], tmp_path / "pool.yaml", environ):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.vllm
@pytest.mark.timeout(1200)
def test_the_wheel_makes_the_built_in_weights_and_serves_them(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """cluster.yaml as it came with the wheel, but for its port: real vLLM, from an empty home."""
    (port,) = free_ports(1)
    made = yaml.safe_load(Path(run(environ, tmp_path, *_SHIPPED, "cluster.yaml").strip()).read_text())
    made["http_options"]["port"] = port
    config = tmp_path / "real.yaml"
    config.write_text(yaml.safe_dump(made))
    with up(["fastserve"], config, environ):
        told = run(environ, tmp_path, "fastserve", "check", "--url", f"http://127.0.0.1:{port}", "--json")
    answers = json.loads(told)["answers"]
    assert {"auto", "smollm2-135m", "smollm2-tuned", "tiny"} <= {answer["asked"] for answer in answers}
    assert [answer for answer in answers if answer["error"]] == []
    assert (tmp_path / "home" / "models" / "tiny").is_dir()


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
