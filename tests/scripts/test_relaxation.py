"""The upper bound of the load benchmark: above whatever a dispatcher earns, below what is free of limits."""

import numpy as np
import pytest

from policies.policy import FormulaPolicy
from policies.priced import PricedPolicy
from policies.simulator.replay import replay
from policies.simulator.scenario import STANDARD, Scenario
from scripts.benchmarks.load.clairvoyant import ClairvoyantPolicy
from scripts.benchmarks.load.relaxation import dual, relaxed, upper_bound
from scripts.benchmarks.load.study import make_study

STUDY = make_study(None, None)
REQUESTS = 300


@pytest.mark.parametrize("scenario", STANDARD, ids=lambda one: one.name)
def test_no_dispatcher_earns_more_than_the_bound(scenario: Scenario) -> None:
    episode = STUDY.episode(scenario, 3, train=False, requests=REQUESTS)
    bound = upper_bound(STUDY, episode)
    for make in (
        lambda simulator: PricedPolicy(),
        lambda simulator: FormulaPolicy(),
        lambda simulator: ClairvoyantPolicy(simulator, 0.5),
    ):
        simulator = STUDY.simulator()
        assert replay(simulator, make(simulator), episode, 3)["reward"].mean() < bound


def test_without_a_price_for_capacity_each_request_takes_its_best_model() -> None:
    episode = STUDY.episode(STANDARD[0], 3, train=False, requests=REQUESTS)
    r = relaxed(STUDY, episode)
    late = np.clip((r.least_s - r.target_s) / r.target_s, 0.0, 1.0)
    alone = np.maximum(r.worth - r.latency_weight * late, -r.latency_weight).max(axis=1)
    total, slope = dual(r, np.zeros((len(STUDY.models), r.windows)))
    assert total == pytest.approx(alone.sum())
    assert slope.sum() == pytest.approx(r.capacity_s.sum() * r.windows - _chosen_work_s(r, alone))
    assert upper_bound(STUDY, episode) <= total / REQUESTS


def _chosen_work_s(r, alone) -> float:
    late = np.clip((r.least_s - r.target_s) / r.target_s, 0.0, 1.0)
    chosen = (r.worth - r.latency_weight * late).argmax(axis=1)
    return float(r.work_s[np.arange(len(alone)), chosen].sum())


def test_where_capacity_binds_its_price_lowers_the_bound() -> None:
    requests = 2_000  # so many that what is left to do after the last arrival matters little
    episode = STUDY.episode(Scenario("crowded", 3.0), 3, train=False, requests=requests)
    r = relaxed(STUDY, episode)
    free, _ = dual(r, np.zeros((len(STUDY.models), r.windows)))
    assert upper_bound(STUDY, episode) < 0.9 * free / requests
