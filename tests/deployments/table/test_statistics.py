"""What the table learns from outcomes and evaluations, and keeps in its checkpoint."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from deployments.records.records import EvaluationRecord, OutcomeRecord
from deployments.table.statistics import READ_S, SLICES, WINDOW_S, TableStatistics, Window
from policies.arrays import F64
from policies.outcome import Outcome, Status


def outcome(status: Status, **values: float) -> OutcomeRecord:
    return OutcomeRecord("d", 0.0, "m", "r", Outcome(status, **values))  # type: ignore[arg-type]


def graded(
    item: str, score: float, task: str = "sums", suite: str = "1", model: str = "1"
) -> EvaluationRecord:
    return EvaluationRecord("suite", suite, item, task, "", "m", model, score)


def test_only_the_models_own_failures_count_as_errors() -> None:
    statistics = TableStatistics()
    for status in (Status.OK, Status.OK, Status.OK, Status.FAILED, Status.REJECTED, Status.CANCELLED):
        statistics.add(outcome(status), 0.0)
    assert statistics.read("m", 0.0).error_rate == pytest.approx(0.25)
    assert statistics.read("m", 0.0).requests == 6
    assert statistics.of("m").statuses == {"ok": 3, "failed": 1, "rejected": 1, "cancelled": 1}


def test_what_a_request_waited_for_its_model_to_wake_is_not_the_models_latency() -> None:
    statistics = TableStatistics()
    waited = replace(outcome(Status.OK, ttft_s=20.1, e2e_s=21.0), ingress_s=20.0)
    statistics.add(waited, 0.0)
    reading = statistics.read("m", 0.0)
    assert (reading.ttft_s.p50, reading.e2e_s.p50) == pytest.approx((0.1, 1.0))


def test_only_answers_tell_how_fast_a_model_is() -> None:
    statistics = TableStatistics()
    statistics.add(outcome(Status.OK, ttft_s=0.1, e2e_s=1.0), 0.0)
    statistics.add(outcome(Status.FAILED, e2e_s=60.0), 0.0)
    statistics.add(outcome(Status.CANCELLED, ttft_s=9.0), 0.0)
    reading = statistics.read("m", 0.0)
    assert (reading.ttft_s.p50, reading.e2e_s.p99) == pytest.approx((0.1, 1.0))


def test_totals_are_exact_at_once_and_percentiles_soon() -> None:
    statistics = TableStatistics()
    statistics.add(outcome(Status.OK, ttft_s=1.0, cost_usd=0.5), 0.0)
    statistics.read("m", 0.0)
    statistics.add(outcome(Status.OK, ttft_s=3.0, cost_usd=0.5), 0.0)
    early, later = statistics.read("m", READ_S / 2), statistics.read("m", READ_S)
    assert (early.requests, early.cost_usd, early.ttft_s.count) == (2, 1.0, 1)
    assert later.ttft_s.count == 2


def test_accuracy_has_an_interval_by_task_and_over_all() -> None:
    statistics = TableStatistics()
    for i in range(80):
        statistics.of("m").add_score(graded(str(i), float(i % 4 > 0), "sums" if i < 40 else "facts"))
    accuracy = statistics.read("m", 0.0).accuracy
    assert set(accuracy) == {"", "sums", "facts"}
    assert accuracy[""].count == 80
    assert accuracy[""].mean == pytest.approx(0.75)
    assert accuracy[""].low < 0.75 < accuracy[""].high
    assert accuracy["sums"].high - accuracy["sums"].low > accuracy[""].high - accuracy[""].low


@pytest.mark.parametrize("changed", [{"suite": "2"}, {"model": "2"}])
def test_a_new_revision_starts_its_accuracy_anew(changed: dict[str, str]) -> None:
    statistics = TableStatistics()
    statistics.of("m").add_score(graded("a", 1.0))
    statistics.of("m").add_score(graded("a", 0.0, **changed))
    accuracy = statistics.read("m", 0.0).accuracy[""]
    assert (accuracy.mean, accuracy.count) == (0.0, 1)


def test_a_checkpoint_keeps_totals_and_windows() -> None:
    statistics = TableStatistics()
    for i in range(100):
        statistics.add(outcome(Status.OK, ttft_s=i / 100, output_tokens=5, cost_usd=0.01), 0.0)
    statistics.sequence = 100
    again = TableStatistics.load(statistics.dump())
    assert again.sequence == 100
    assert again.read("m", 1.0) == statistics.read("m", 1.0)
    assert again.of("m").statuses == {"ok": 100}


SPAN_S = 0.99 * WINDOW_S * (SLICES - 1) / SLICES  # never longer than the window, wherever its slices begin

Draw = Callable[[np.random.Generator, int], F64]

SHAPES: dict[str, Draw] = {
    "uniform": lambda rng, n: rng.uniform(0.001, 1000.0, n),
    "long tail": lambda rng, n: rng.lognormal(0.0, 2.0, n),
    "many equal": lambda rng, n: np.round(rng.exponential(3.0, n)),
    "two values": lambda rng, n: np.where(rng.random(n) < 0.5, 1.0, 1000.0),
    "rising": lambda rng, n: np.linspace(0.0, 1.0, n),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [200, 3000])
def test_percentiles_have_about_their_rank(shape: str, count: int) -> None:
    rng = np.random.default_rng(count)
    values, began_s, window = SHAPES[shape](rng, count), rng.uniform(0.0, 1e9), Window()
    for i, value in enumerate(values):
        window.add(float(value), began_s + i * SPAN_S / count)
    found = window.quantiles(began_s + SPAN_S)
    assert found.count == count
    assert found.mean == pytest.approx(np.mean(values))
    ordered = np.sort(values)
    for value, rank, error in ((found.p50, 0.5, 0.06), (found.p95, 0.95, 0.02), (found.p99, 0.99, 0.01)):
        low = np.searchsorted(ordered, value, "left") / count
        high = np.searchsorted(ordered, value, "right") / count
        assert low - error <= rank <= high + error


def test_old_values_leave_slice_by_slice() -> None:
    window = Window()
    for i in range(SLICES):
        window.add(float(i), i * WINDOW_S / SLICES)
    assert window.quantiles(WINDOW_S - 1).count == SLICES
    assert window.quantiles(WINDOW_S + 1).count == SLICES - 1
    assert window.mean(WINDOW_S + 1) == pytest.approx(np.mean(range(1, SLICES)))
    assert window.quantiles(3 * WINDOW_S).count == 0
    assert np.isnan(window.quantiles(3 * WINDOW_S).p50)


def test_what_is_not_a_number_is_left_out() -> None:
    window = Window()
    for value in (None, float("nan"), float("inf"), 1.0):
        window.add(value, 0.0)
    assert window.quantiles(0.0).count == 1


def test_a_clock_that_steps_back_loses_nothing() -> None:
    window = Window()
    window.add(1.0, 1000.0)
    window.add(2.0, 900.0)
    assert window.quantiles(1000.0).count == 2


def test_a_dump_brings_the_same_percentiles_back() -> None:
    window, again = Window(), Window()
    for i in range(500):
        window.add(float(i), i / 10)
    again.load(window.dump())
    assert again.quantiles(60.0) == window.quantiles(60.0)
