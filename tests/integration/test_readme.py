"""The README's commands, executed as they stand, on the real pool."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home of its own, so that nothing here depends on what was there before."""
    home = tmp_path_factory.mktemp("home")
    return {**os.environ, "FASTSERVE_HOME": str(home)}


@pytest.fixture(scope="module")
def running(environment: dict[str, str]) -> Iterator[str]:
    """`scripts/run.sh`, up; gives what it printed. It must end by itself after Ctrl-C."""
    process = subprocess.Popen(
        ["scripts/run.sh"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    yield "".join(printed)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(90) == 0


def key(environment: dict[str, str]) -> dict[str, str]:
    text = (Path(environment["FASTSERVE_HOME"]) / "key").read_text().strip()
    return {
        **environment,
        "FASTSERVE_KEY": text,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def output(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        command, env=key(environment), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_python_example_answers(running: str, environment: dict[str, str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    done = subprocess.run(
        [sys.executable, "-c", block],
        env=key(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert len(done.stdout.split()) >= 2


def test_the_printed_calls_answer(running: str, environment: dict[str, str]) -> None:
    calls = running[running.index("curl") :].replace("Ctrl-C stops everything.", "")
    printed = output(["bash", "-euc", calls], environment)
    assert printed.count('"model"') >= 2
    assert "data: [DONE]" in printed


def test_the_check_asks_every_model(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    done = subprocess.run(
        ["scripts/run.sh", "--check", "--json", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    answers = json.loads(out.read_text())["answers"]
    asked = {answer["asked"] for answer in answers}
    assert {"auto", "smollm2-135m", "smollm2-tuned", "tiny"} <= asked
    assert not [answer for answer in answers if answer["error"]]
