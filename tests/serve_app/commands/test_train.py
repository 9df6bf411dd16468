import json
from pathlib import Path

import pytest

from policies.learned.policy import LearnedPolicy
from serve_app.cli import main


def _pool(path: Path) -> Path:
    pool = [
        {"name": "model-0", "step_base_s": 0.01, "slots": 8},
        {"name": "model-1", "step_base_s": 0.03, "slots": 8, "completion_usd_per_mtok": 2.0},
    ]
    path.write_text(json.dumps(pool))
    return path


def _train(tmp_path: Path, *more: str) -> int:
    pool = str(_pool(tmp_path / "pool.json"))
    output = str(tmp_path / "out")
    size = ["--decisions", "1024", "--environments", "8", "--hidden", "8"]
    return main(["train", "--pool", pool, "--output", output, *size, *more])


def test_training_writes_a_policy_its_metrics_and_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(tmp_path) == 0
    policy = LearnedPolicy.from_bytes((tmp_path / "out" / "policy.safetensors").read_bytes())
    assert policy.revision in capsys.readouterr().out
    assert policy.manifest.data_range["decisions"] >= 1024
    assert policy.manifest.data_range["prompts"] == 6000
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["decisions"] >= 1024
    assert _train(tmp_path, "--resume") == 0
    again = LearnedPolicy.from_bytes((tmp_path / "out" / "policy.safetensors").read_bytes())
    assert again.revision == policy.revision  # nothing was left to do


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ('[{"name": "a"}]', "a policy needs 2"),
        ('[{"name": "a", "steps": 3}, {"name": "b"}]', "ModelSpec"),
        ('[{"name": "a", "slots": 0}, {"name": "b"}]', "slots >= 1"),
        ("nothing", "Expecting value"),
    ],
)
def test_a_bad_pool_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, rule: str
) -> None:
    path = tmp_path / "pool.json"
    path.write_text(content)
    assert main(["train", "--pool", str(path), "--output", str(tmp_path / "out")]) == 1
    assert rule in capsys.readouterr().err


def test_resuming_without_a_state_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _train(tmp_path, "--resume") == 1
    assert "Cannot resume" in capsys.readouterr().err
