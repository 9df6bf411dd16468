"""bench.py rewording: what it compares, and that its rewordings keep the words that matter."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.quality.rewording import REWORDINGS, compared, run


def test_equal_predictions_change_nothing_and_opposite_ones_everything() -> None:
    first, scores = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    same = compared("same", first, first, scores)
    assert (same["unchanged"], same["probability_moved"], same["score_loss"]) == (1.0, 0.0, 0.0)
    other = compared("other", first, first[:, ::-1], scores)
    assert (other["unchanged"], other["score_loss"]) == (0.0, 1.0)
    assert other["predicted_loss"] == pytest.approx(0.7)


@pytest.mark.parametrize("name", REWORDINGS)
def test_a_rewording_keeps_every_word(name: str) -> None:
    text = "Compute the sum of twelve and thirty."
    reworded = REWORDINGS[name](text).lower()
    assert all(word in reworded for word in text.lower().rstrip(".").split())


def test_a_short_run_reports_each_rewording(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {"prompt": f"{kind} number {i}", "scores": {"a": int(kind == "add"), "b": int(kind == "sing")}}
        )
        for i in range(30)
        for kind in ("add", "sing")
    ]
    data = tmp_path / "d.jsonl"
    data.write_text("\n".join(lines))
    report = run(argparse.Namespace(data=data, fit=40, test=20, seed=0))
    rows = report.results["rewordings"]
    assert isinstance(rows, list)
    assert [row["rewording"] for row in rows] == list(REWORDINGS)
    assert report.results["models"] == ["a", "b"]
