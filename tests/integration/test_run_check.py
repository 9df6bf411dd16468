"""`scripts/run.sh --check`, as the README gives it, from a home with nothing in it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1000)]


def test_the_check_asks_every_model(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FASTSERVE_", "RAY_"))}
    done = subprocess.run(
        ["scripts/run.sh", "--check", "--json"],
        cwd=ROOT,
        env={**kept, "FASTSERVE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    answers = json.loads(done.stdout)["answers"]
    asked = {answer["asked"] for answer in answers}
    assert {"auto", "smollm2-135m", "smollm2-tuned", "tiny"} <= asked
    assert not [answer for answer in answers if answer["error"]]
