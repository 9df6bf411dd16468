"""bench.py feedback: votes on prompts of two kinds lower the error; a liar is bounded."""

import argparse
from pathlib import Path

from scripts.benchmarks.quality.feedback import run
from tests.scripts.scored_prompts import written


def test_votes_add_to_a_small_evaluation(tmp_path: Path) -> None:
    data = written(tmp_path / "set.jsonl", 400)
    report = run(argparse.Namespace(data=[data], evaluated=20, keys=40, most=400, seeds=2))
    assert [bar.name for bar in report.bars] == ["set: error with votes", "set: a liar moves others by"]
    assert all(bar.passed for bar in report.bars)
    found = report.results["set"]
    assert isinstance(found, dict)
    assert found["gain"]["mean"] == found["with_votes"]["mean"] - found["evaluation"]["mean"]
    assert found["error_ratio"]["mean"] < 0.99
