"""The parts of the evaluation benchmarks that decide what is measured and what passes."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from deployments.evaluation_report import differences, summarise
from deployments.records import EvaluationRecord
from scripts.benchmarks._serving import _document
from scripts.benchmarks.evaluation import sample
from scripts.benchmarks.evaluation_load import ratio_p95
from scripts.benchmarks.evaluation_pool import _bars, draw
from tests.deployments.fake_endpoint import sums

ROOT = Path(__file__).resolve().parents[2]


def records(*rates: float, items: int = 60) -> list[EvaluationRecord]:
    return [
        EvaluationRecord("s", "1", f"i{n}", "t", "", f"m{m}", "r", float(n < rate * items))
        for m, rate in enumerate(rates)
        for n in range(items)
    ]


@pytest.mark.parametrize(
    ("rates", "passed"), [((0.3, 0.7), True), ((0.5, 0.52), False), ((0.05, 0.7), False), ((0.5, 1.0), False)]
)
def test_a_suite_passes_where_two_useful_models_differ(rates: tuple[float, ...], passed: bool) -> None:
    made = records(*rates)
    assert [bar.passed for bar in _bars(summarise(made), differences(made))] == [passed]


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    draw(summarise(records(0.2, 0.8)), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_ratio_of_equal_samples_is_one_with_its_spread() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, 300).tolist()
    ratio, spread = ratio_p95(values, values, draws=200)
    assert ratio == 1.0
    assert 0.0 < spread < 0.5
    assert ratio_p95([2 * value for value in values], values, draws=50)[0] == pytest.approx(2.0)


def test_a_sample_takes_each_task_alike(tmp_path: Path) -> None:
    assert [item.task for item in sample(sums(tmp_path), 2)] == ["t0", "t0", "t1", "t1", "t2", "t2"]
    assert len(sample(sums(tmp_path), None)) == 12


def test_a_pool_for_measuring_has_the_wanted_models_and_no_companions() -> None:
    config = ROOT / "cluster.yaml"
    wanted = next(
        app["args"]["id"]
        for app in yaml.safe_load(config.read_text())["applications"]
        if app["name"].startswith("model-")
    )
    document = _document(config, wanted, ())
    assert {app["name"] for app in document["applications"]} == {"fastserve", f"model-{wanted}"}
    endpoint = next(app for app in document["applications"] if app["name"] == "fastserve")
    assert not endpoint["args"]["evaluator"]
    assert {deployment["name"] for deployment in endpoint["deployments"]} == {"Ingress"}
