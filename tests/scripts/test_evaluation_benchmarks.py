"""The parts of the evaluation benchmarks that decide what is measured and what passes."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from deployments.evaluation.report import differences, summarise
from deployments.evaluation.session import Session
from deployments.records.records import EvaluationRecord
from deployments.table.store.store import Store
from deployments.table.table import Table
from scripts.benchmarks.evaluation import evaluation, evaluation_load
from scripts.benchmarks.evaluation.evaluation import sample
from scripts.benchmarks.evaluation.evaluation_load import ratio_p95
from scripts.benchmarks.evaluation.evaluation_pool import _bars, draw
from scripts.benchmarks.serving.served_pool import Serving, _document
from serve_app.console.evaluation import evaluate
from tests.deployments.fake_endpoint import KEY, FakeEndpoint, card, right, sums, warm

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
    document = _document(config, wanted, {})
    assert {app["name"] for app in document["applications"]} == {"fastserve", f"model-{wanted}"}
    endpoint = next(app for app in document["applications"] if app["name"] == "fastserve")
    assert not endpoint["args"]["evaluator"]
    assert {deployment["name"] for deployment in endpoint["deployments"]} == {"Ingress"}


class Ground:
    """A table with two models and an endpoint that stands for both the replicas and FastServe."""

    def __init__(self, endpoint: FakeEndpoint, folder: Path) -> None:
        self.table = Table(Store(f"sqlite:///{folder / 'store.sqlite3'}"))
        self.endpoint = endpoint
        self.serving = Serving(endpoint.url, KEY, self.table)  # type: ignore[arg-type]

    async def push(self) -> None:
        for model in ("good", "poor"):
            await self.table.register_model(card(model))
        while True:
            for model in ("good", "poor"):
                await self.table.push_replica(warm(model, url=self.endpoint.url), [])
            await asyncio.sleep(0.1)


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    def answer(model: str, prompt: str) -> str:
        return right(model, prompt) if "+" in prompt else "fine"

    async with FakeEndpoint(answer, open_to_all=True) as endpoint:
        ground = Ground(endpoint, tmp_path)
        pushing = asyncio.create_task(ground.push())
        yield ground
        pushing.cancel()


async def test_each_item_is_asked_both_ways_and_graded_alike(ground: Ground, tmp_path: Path) -> None:
    suite = sums(tmp_path)
    pairs = await evaluation._ask_all(ground.serving, "poor", list(suite.items))
    assert [pair.direct_score for pair in pairs] == [pair.through_score for pair in pairs]
    report = evaluation._report("poor", suite, pairs)
    assert [bar.passed for bar in report.bars] == [True]
    assert report.results["differ"] == []
    assert set(ground.endpoint.asked.values()) == {2}


async def test_an_item_that_differs_fails_the_bar(ground: Ground, tmp_path: Path) -> None:
    suite = sums(tmp_path)
    pairs = await evaluation._ask_all(ground.serving, "poor", list(suite.items))
    pairs[0] = replace(pairs[0], through_score=1.0 - pairs[0].direct_score)
    report = evaluation._report("poor", suite, pairs)
    assert not report.bars[0].passed
    assert report.results["differ"] == ["i0"]


async def test_users_are_timed_with_and_without_an_evaluation(ground: Ground, tmp_path: Path) -> None:
    args = argparse.Namespace(rate=20.0, phase_s=1.0, rounds=2, quiet_s=0.0)
    report = await evaluation_load._measure(args, ground.serving, [sums(tmp_path)])
    bars = {bar.name: bar for bar in report.bars}
    assert bars["items answered meanwhile"].passed
    phases = {phase["users"]: phase for phase in report.results["phases"]}  # type: ignore[attr-defined]
    assert phases["with evaluation"]["requests"] == phases["without"]["requests"] > 20


async def test_the_pools_evaluation_shows_its_progress(
    ground: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    while len((await ground.table.snapshot("", 0, 0.0)).models) < 2:
        await asyncio.sleep(0.05)
    session = Session(ground.table, ground.endpoint.url, KEY, [sums(tmp_path)])
    progress, found = await evaluate(session)
    assert (progress.done, len(found)) == (24, 24)
    assert "24/24" in capsys.readouterr().err
