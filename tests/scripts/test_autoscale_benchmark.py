"""The compressed day and its quick imitation, which choose what the benchmark of autoscaling runs."""

from pathlib import Path

import numpy as np
import pytest

from policies.scaling import Goal
from scripts.benchmarks.scaling.autoscale import Asked, Course
from scripts.benchmarks.scaling.day import arrivals, few, merged, recorded_days
from scripts.benchmarks.scaling.imitation import Engine, PlanScaler, ServeScaler, imitate

ENGINE = Engine(slots=4, step_s=0.0125, mean_output_tokens=24, start_s=3.0, leave_s=1.0)


def test_days_are_read_whole_and_requests_follow_them(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    lines = [f"a,{600 * window},{1.0 + window % 144}" for window in range(300)]
    path.write_text("\n".join(["model,window_start_s,requests_per_s", *lines]))
    days = recorded_days(path)["a"]
    assert [len(day) for day in days] == [145, 145]
    times = arrivals(days[0], 100.0, 50.0, seed=1)
    assert ((times >= 0.0) & (times < 100.0)).all()
    assert (times > 50.0).sum() == pytest.approx(3 * (times < 50.0).sum(), rel=0.2)


def test_few_requests_come_in_visits() -> None:
    times = few(300.0, 6, 3, seed=1)
    assert len(times) == 18
    assert (np.diff(times) > 10.0).sum() == 5
    assert merged([("b", times[:2]), ("a", times[:1])])[0] == (times[0], "a")


@pytest.mark.parametrize("rate", [4.0, 30.0])
def test_the_imitation_pays_for_what_runs_and_counts_who_waits(rate: float) -> None:
    times = np.arange(0.0, 60.0, 1.0 / rate)
    plenty = imitate(times, ServeScaler(0.2, 0.5, 0.1, 2.0), ENGINE, 0.5, 60.0)
    frugal = imitate(times, ServeScaler(1e6, 0.5, 0.1, 2.0), ENGINE, 0.5, 60.0)
    planned = imitate(times, PlanScaler(Goal(0.5, 0.99, 60.0, 5.0), ENGINE), ENGINE, 0.5, 60.0)
    assert frugal.replica_s == pytest.approx(60.0, abs=0.2), "one replica all the time"
    assert frugal.replica_s <= planned.replica_s <= plenty.replica_s + 3.0
    assert planned.share >= frugal.share
    assert plenty.requests == len(times)


def test_a_failed_request_is_late() -> None:
    asked = (Asked("a", 0.0, 0.1, ""), Asked("a", 1.0, float("inf"), "503"))
    course = Course({"a": 10.0}, {"a": 8.0}, asked)
    assert course.share(0.5) == 0.5
    assert course.summary(0.5)["failed"] == ["a at 1.0 s: 503"]
