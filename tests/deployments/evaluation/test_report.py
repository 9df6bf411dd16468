"""Accuracy with intervals, errors of numbers, times and paired differences from records."""

import json

import pytest
from scipy import stats

from deployments.evaluation.report import ALL, differences, summarise, to_json
from deployments.records.records import EvaluationRecord, latest
from policies.promotion.confidence import wilson


def record(item: int, model: str, score: float, **fields: object) -> EvaluationRecord:
    base = {"suite": "s", "suite_revision": "1", "task": f"t{item % 2}", "profile": "", "model_revision": "r"}
    return EvaluationRecord(item=f"i{item}", model=model, score=score, **(base | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (77, 100), (1, 1)])
def test_wilson_is_scipys(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-5)


def test_cells_have_accuracy_by_task_and_over_all() -> None:
    cells = summarise([record(n, "a", float(n % 2)) for n in range(10)])
    assert [(c.task, c.items, c.accuracy) for c in cells] == [("t0", 5, 0.0), ("t1", 5, 1.0), (ALL, 10, 0.5)]
    assert cells[2].low < 0.5 < cells[2].high


def test_numbers_have_a_mean_squared_error_and_times_percentiles() -> None:
    records = [
        record(
            0,
            "a",
            1.0,
            squared_error=0.0,
            ttft_s=0.1,
            e2e_s=1.0,
            prompt_tokens=5,
            output_tokens=2,
            cost_usd=0.5,
        ),
        record(
            2,
            "a",
            0.0,
            squared_error=4.0,
            ttft_s=0.3,
            e2e_s=3.0,
            prompt_tokens=5,
            output_tokens=2,
            cost_usd=0.5,
        ),
        record(4, "a", 0.0, error="context_length_exceeded"),
    ]
    cell = summarise(records)[0]
    assert (cell.squared_error, cell.numbers, cell.errors) == (2.0, 2, 1)
    assert (cell.ttft_p50_s, cell.e2e_p50_s) == (pytest.approx(0.2), pytest.approx(2.0))
    assert (cell.prompt_tokens, cell.output_tokens, cell.cost_usd) == (10, 4, 1.0)


def test_differences_are_paired_and_tested() -> None:
    records = [record(n, "a", 1.0) for n in range(12)] + [record(n, "b", float(n < 4)) for n in range(10)]
    (pair,) = differences(records)
    assert (pair.first, pair.second, pair.items) == ("a", "b", 10)
    assert pair.difference == pytest.approx(0.6)
    assert pair.low < 0.6 < pair.high
    assert pair.p == pytest.approx(stats.binomtest(6, 6).pvalue)


def test_models_that_always_agree_do_not_differ() -> None:
    (pair,) = differences([record(n, m, 1.0) for n in range(5) for m in "ab"])
    assert (pair.difference, pair.p) == (0.0, 1.0)


def test_only_the_newest_revisions_count() -> None:
    old, new = record(0, "a", 0.0, finished_s=1.0), record(0, "a", 1.0, model_revision="r2", finished_s=2.0)
    assert latest([new, old]) == [new]


def test_the_report_is_json_without_nan() -> None:
    records = [record(0, "a", 1.0), record(0, "b", 0.0)]
    text = json.dumps(to_json(summarise(records), differences(records)), allow_nan=False)
    assert json.loads(text)["cells"][0]["ttft_p50_s"] is None
