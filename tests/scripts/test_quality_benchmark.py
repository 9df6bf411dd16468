"""bench.py quality: reading, routers, the APGR curve and every protocol on a small file."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.quality.bandit import PUBLISHED, Residuals, budgets_of
from scripts.benchmarks.quality.data import read
from scripts.benchmarks.quality.protocols import recovered
from scripts.benchmarks.quality.quality import run
from scripts.benchmarks.quality.routers import chosen_scores, task_label
from tests.scripts.scored_prompts import written


def options(data: Path, **changed: object) -> argparse.Namespace:
    base = {
        "data": data,
        "train": None,
        "protocol": "kfold",
        "models": None,
        "labels": 40,
        "seeds": 1,
        "budgets": 2,
        "paretobandit_venv": None,
    }
    return argparse.Namespace(**{**base, **changed})


def test_recovered_reaches_the_whole_gap_and_gains_most_where_predictions_are_right() -> None:
    weak, strong = np.zeros(100), (np.arange(100) < 30).astype(float)
    shares, right = recovered(strong, weak, strong)
    _, wrong = recovered(-strong, weak, strong)
    assert right[0] == wrong[0] == 0.0
    assert right[-1] == wrong[-1] == 1.0
    assert np.trapezoid(right, shares) > 0.8 > 0.2 > np.trapezoid(wrong, shares)


def test_unknown_scores_are_never_chosen() -> None:
    scores = np.array([[np.nan, 0.3], [0.7, 0.2]])
    assert chosen_scores(np.array([[0.9, 0.1], [0.9, 0.1]]), scores).tolist() == [0.3, 0.7]


def test_the_task_router_uses_the_label_and_knows_unseen_ones_by_the_mean(tmp_path: Path) -> None:
    data = read(written(tmp_path / "scored.jsonl", 40))
    predicted = task_label(data.take(range(30)), data.take(range(30, 40)))
    assert predicted[0, data.models.index("small")] > 0.8
    assert predicted[1, data.models.index("small")] < 0.35


def test_residuals_learn_what_was_missed_for_the_chosen_arm_only() -> None:
    learner = Residuals(2, 3, penalty=1.0)
    context = np.array([1.0, 0.0, 1.0])
    for _ in range(50):
        learner.learn(0, context, 0.4)
    assert learner.predict(context) == pytest.approx([0.4, 0.0], abs=0.01)


def test_budgets_span_the_single_models_costs(tmp_path: Path) -> None:
    data = read(written(tmp_path / "scored.jsonl", 20))
    assert budgets_of(data, 3) == pytest.approx([0.001, 0.01**0.5 * 0.001**0.5, 0.01])
    assert [row.cost_usd for row in PUBLISHED] == sorted(row.cost_usd for row in PUBLISHED)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("protocol", ["kfold", "apgr", "full", "bandit"])
def test_each_protocol_runs_and_ours_beats_chance(tmp_path: Path, protocol: str, gaps: bool) -> None:
    data = written(tmp_path / "scored.jsonl", 80, priced=not gaps, gaps=gaps)
    report = run(options(data, train=data, protocol=protocol))
    results = json.loads(json.dumps(report.results, allow_nan=False))
    if protocol == "bandit":
        row = results["budgets"][-1]
        assert row["ours"]["reward"] > row["random"]["reward"]
    else:
        scores = results["apgr" if protocol == "apgr" else "scores"]
        assert scores["ours"]["mean"] > scores["random"]["mean"]
        assert {"best_single", "task_label", "tfidf_ridge", "static_mix", "oracle"} <= set(scores)


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "no prompt"), ("{", "line 1"), ('{"prompt": 3}', "prompt"), ('{"prompt": "x"}', "scores")],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=what):
        read(path)


def test_unknown_models_and_a_missing_train_file_are_named(tmp_path: Path) -> None:
    data = written(tmp_path / "scored.jsonl", 20)
    with pytest.raises(SystemExit, match="'x'"):
        read(data, ["x"])
    with pytest.raises(SystemExit, match="--train"):
        run(options(data, protocol="bandit"))
