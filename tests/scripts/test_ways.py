"""How the ways of choosing are compared on the real pool, and what counts as a compliance failure."""

import numpy as np
import pytest

from deployments.records.records import DecisionRecord, EvaluationRecord
from policies.observation import CALLER_FIELDS, MODEL_COLUMN, MODEL_FIELDS, PROMPT_FIELDS
from scripts.benchmarks.learning.traffic import Asked
from scripts.benchmarks.learning.ways import Comparison, best_by_task, judged, plain
from scripts.benchmarks.serving.compliance import failures

CALLER = (1.0, 1.0, 0.0, 2.0)


def graded(model: str, task: str, score: float, e2e_s: float) -> EvaluationRecord:
    return EvaluationRecord(
        "s", "1", f"{task}-{score}", task, "p", model, "r", score, e2e_s=e2e_s, finished_s=1.0
    )


RECORDS = [
    *(graded("slow", task, score, 1.0) for task, score in (("hard", 1.0), ("easy", 0.9), ("easy", 1.0))),
    *(graded("fast", task, score, 0.1) for task, score in (("hard", 0.0), ("easy", 0.9), ("easy", 1.0))),
]


def decision() -> DecisionRecord:
    rows = np.zeros((2, len(MODEL_FIELDS)))
    rows[:, MODEL_COLUMN["weight"]] = 1.0
    rows[:, MODEL_COLUMN["accuracy"]] = 0.5
    rows[:, MODEL_COLUMN["e2e_s"]] = 0.5
    return DecisionRecord(
        "d1",
        1.0,
        "k",
        "auto:p",
        "p",
        "fast",
        "formula",
        0.5,
        0.0,
        1,
        models=("fast", "slow"),
        rows=tuple(map(tuple, rows)),
        prompt=(0.0,) * len(PROMPT_FIELDS),
        caller=(*CALLER, *(0.0,) * (len(CALLER_FIELDS) - len(CALLER))),
        mask=(True, True),
    )


def asked(way: str, model: str, utility: float) -> Asked:
    return Asked(0.0, "i", "p", way, model, "formula", utility, 0.1, utility, False, "hard", "d1")


def test_the_label_knows_the_best_model_of_each_task() -> None:
    assert best_by_task(RECORDS, {"p": CALLER}) == {"hard": "slow", "easy": "fast"}


def test_the_plain_formula_follows_one_accuracy_a_model() -> None:
    assert plain(decision(), {"fast": 0.2, "slow": 0.9})[1] > 0.9
    assert plain(decision(), {"fast": 0.9, "slow": 0.2})[0] > 0.9


def test_every_way_is_judged_on_the_same_items() -> None:
    row = [asked("auto", "fast", 0.7), asked("fast", "fast", 0.3), asked("slow", "slow", 0.8)]
    known = Comparison(["fast", "slow"], {"p": CALLER}, RECORDS, {"d1": decision()}, [row, row])
    ways = {way: values[:, 0].tolist() for way, values in judged(known).items()}
    assert ways["auto"] == [0.7, 0.7]
    assert ways["task label"] == ways["slow"] == ways["oracle"] == [0.8, 0.8]
    assert ways["plain formula"] == pytest.approx([0.8, 0.8], abs=0.05)


def test_only_what_vllm_passes_counts_as_a_failure() -> None:
    vllm = {"a": {"status": "passed"}, "b": {"status": "failed", "errors": ["x"]}}
    assert failures(vllm, vllm) == []
    assert failures({"a": {"status": "failed", "errors": ["y"]}, "b": vllm["b"]}, vllm) == ["a"]
    assert failures({"b": {"status": "failed", "errors": ["x", "z"]}}, vllm) == ["b"]
