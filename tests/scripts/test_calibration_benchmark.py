"""bench.py calibration on recorded loads: errors with intervals, both loads or none."""

import argparse
from pathlib import Path

import pytest

from policies.simulator.arrivals import synthetic_trace
from scripts.benchmarks.load.calibration import LIMIT, read_served, run, write_served
from scripts.benchmarks.load.step_engine import StepEngine, serve


def options(fit: Path | None, score: Path | None) -> argparse.Namespace:
    return argparse.Namespace(pool=False, fit=fit, score=score, slots=16.0, replicas=1.0)


def test_a_fit_is_scored_on_the_other_load_with_an_interval(tmp_path: Path) -> None:
    paths = tmp_path / "fit.jsonl", tmp_path / "score.jsonl"
    for seed, path in enumerate(paths):
        write_served(path, serve(StepEngine("a"), synthetic_trace(150, seed).at_rate(0.4), seed=seed))
    assert len(read_served(paths[0])) == 150
    report = run(options(*paths))
    assert [bar.name for bar in report.bars] == [
        f"a: error of {what}" for what in ("ttft_p50", "ttft_p95", "e2e_p50", "e2e_p95")
    ]
    for bar in report.bars:
        assert bar.passed == (bar.value <= LIMIT)
        assert 0.0 < bar.spread < 1.0


def test_one_load_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="go together"):
        run(options(tmp_path / "fit.jsonl", None))
