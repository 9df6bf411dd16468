"""The dispatchers of the load benchmark: every baseline with the same number of configurations to try."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from policies.arrays import F64
from policies.baselines.simple import BestSinglePolicy, LeastLoadedPolicy
from policies.baselines.static_mix import StaticMixPolicy, best_mix
from policies.observation import Observation
from policies.policy import Policy
from policies.reward import lateness
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import capacity_per_s, step_s
from policies.utility import Weights
from scripts.benchmarks.baselines.blind import RandomPolicy, RoundRobinPolicy
from scripts.benchmarks.baselines.knn import KnnPolicy
from scripts.benchmarks.baselines.lin_ucb import LinUcbPolicy
from scripts.benchmarks.baselines.multi_factor import MultiFactorPolicy
from scripts.benchmarks.baselines.route_balance import RouteBalancePolicy
from scripts.benchmarks.baselines.static_latency import StaticLatencyPolicy
from scripts.benchmarks.baselines.task_label import TaskLabelPolicy
from scripts.benchmarks.baselines.thompson import ThompsonPolicy
from scripts.benchmarks.load.clairvoyant import ClairvoyantPolicy
from scripts.benchmarks.load.pool import CALLER, TARGET_S
from scripts.benchmarks.load.study import Study

CLAIRVOYANT = "clairvoyant"
CONFIGURATIONS = 6  # every dispatcher gets that many to choose from on the training stretch
MULTI_FACTOR_WEIGHTS = (  # quality, latency, cost, load
    (0.25, 0.25, 0.25, 0.25),
    (0.4, 0.1, 0.1, 0.4),
    (0.6, 0.1, 0.1, 0.2),
    (0.4, 0.3, 0.1, 0.2),
    (0.3, 0.1, 0.0, 0.6),
    (0.5, 0.0, 0.1, 0.4),
)
ROUTE_BALANCE_WEIGHTS = (  # quality, cost, latency, balance
    (0.3, 0.2, 0.3, 0.2),
    (0.5, 0.1, 0.3, 0.1),
    (0.6, 0.1, 0.3, 0.0),
    (0.4, 0.1, 0.5, 0.0),
    (0.3, 0.1, 0.4, 0.2),
    (0.7, 0.1, 0.2, 0.0),
)
Make = Callable[[QueueSimulator, float], Policy]  # (simulator, load factor) -> a fresh policy


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """A named family of policies: label of each configuration -> how to make it."""

    name: str
    configurations: Mapping[str, Make]


class SubsetPolicy(Policy):
    """Another policy over the strongest models only: what there is to tune where a policy has no knob."""

    def __init__(self, inner: Policy, keep: F64) -> None:
        self.inner, self.keep, self.name = inner, keep, inner.name

    def distribution(self, observation: Observation) -> F64:
        """[M] the inner policy's, with the others masked out where any of the strong is allowed."""
        mask = observation.mask & (self.keep > 0)
        if not mask.any():
            return self.inner.distribution(observation)
        return self.inner.distribution(
            Observation(observation.models, observation.rows, observation.prompt, observation.caller, mask)
        )


def lone_utility(study: Study) -> F64:
    """[M] mean utility of each model on the training rows without any queue."""
    prompt, output = float(study.train.prompt_tokens.mean()), float(study.train.output_tokens.mean())
    values = []
    for i, model in enumerate(study.models):
        e2e_s = prompt / model.prefill_tokens_per_s + output * step_s(model, 1.0)
        share = model.cost_usd(prompt, output) / study.cost_scale_usd
        score = float(study.table.score[study.train_rows, i].mean())
        values.append(CALLER[0] * score - CALLER[1] * lateness(e2e_s, TARGET_S) - CALLER[2] * share)
    return np.array(values)


def baselines(study: Study) -> list[Dispatcher]:
    """All baselines of the dispatch policy, each with CONFIGURATIONS settings."""
    return [
        *_without_knobs(study),
        *_scored(study),
        *_learning(study),
        _static_mix(study),
    ]


def clairvoyants() -> list[Dispatcher]:
    """The upper reference, and one that only knows the answers' scores; each at several prices."""
    prices = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    return [
        Dispatcher(name, {f"price {p}": _clairvoyant(p, knows_times) for p in prices})
        for name, knows_times in ((CLAIRVOYANT, True), ("knows scores only", False))
    ]


def _clairvoyant(price: float, knows_times: bool) -> Make:
    return lambda simulator, load: ClairvoyantPolicy(simulator, price, knows_times=knows_times)


def _without_knobs(study: Study) -> list[Dispatcher]:
    value = lone_utility(study)
    order = np.argsort(-value)
    kept = sorted({max(1, round(len(value) * share)) for share in np.linspace(0.25, 1.0, CONFIGURATIONS)})

    def subset(make: Callable[[], Policy], count: int) -> Make:
        keep = np.isin(np.arange(len(value)), order[:count]).astype(float)
        return lambda simulator, load: SubsetPolicy(make(), keep)

    simple: dict[str, Callable[[], Policy]] = {
        "random": RandomPolicy, "round robin": RoundRobinPolicy, "least loaded": LeastLoadedPolicy,
    }  # fmt: skip
    found = [
        Dispatcher(name, {f"best {n} models": subset(make, n) for n in kept}) for name, make in simple.items()
    ]
    names = [model.name for model in study.models]
    singles: dict[str, Make] = {
        names[i]: lambda simulator, load, i=i: BestSinglePolicy({names[i]: 1.0})  # type: ignore[misc]
        for i in order[:CONFIGURATIONS]
    }
    return [*found, Dispatcher("best single", singles)]


def _scored(study: Study) -> list[Dispatcher]:
    tpot = {model.name: step_s(model, 1.0) for model in study.models}
    emphasis = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
    static = {
        f"latency weight {w}": lambda simulator, load, w=w: StaticLatencyPolicy(
            tpot, Weights(1.0, w, CALLER[2])
        )
        for w in emphasis
    }
    multi = {str(w): lambda simulator, load, w=w: MultiFactorPolicy(weights=w) for w in MULTI_FACTOR_WEIGHTS}
    balance = {str(w): lambda simulator, load, w=w: RouteBalancePolicy(w) for w in ROUTE_BALANCE_WEIGHTS}
    return [
        Dispatcher("static latency prior", static),
        Dispatcher("multi-factor (vLLM SR)", multi),
        Dispatcher("RouteBalance score", balance),
    ]


def _learning(study: Study) -> list[Dispatcher]:
    knn = {
        f"k {k}, prior {n}": lambda simulator, load, k=k, n=n: KnnPolicy(k=k, prior_count=n)
        for k in (20, 50, 100)
        for n in (5.0, 50.0)
    }
    ucb = {
        f"alpha {a}, forgetting {f}": lambda simulator, load, a=a, f=f: LinUcbPolicy(alpha=a, forgetting=f)
        for a in (0.05, 0.3)
        for f in (1.0, 0.999, 0.99)
    }
    thompson = {
        f"prior {n}, most {most}": lambda simulator, load, n=n, most=most: ThompsonPolicy(64, n, most)
        for n in (2.0, 50.0)
        for most in (20.0, 200.0, 2000.0)
    }
    task = {
        f"prior {n}": lambda simulator, load, n=n: _task_label(study, simulator, n)
        for n in (1.0, 5.0, 20.0, 100.0, 500.0, 2000.0)
    }
    return [
        Dispatcher("kNN", knn),
        Dispatcher("LinUCB", ucb),
        Dispatcher("Thompson", thompson),
        Dispatcher("task label", task),
    ]


def _task_label(study: Study, simulator: QueueSimulator, prior_count: float) -> TaskLabelPolicy:
    """Knows the true task of each prompt, and the task means of the training rows."""
    names = [model.name for model in study.models]
    by_task: dict[str, dict[str, float]] = {}
    tasks = np.array(study.tasks)[study.train_rows]
    for task in sorted(set(tasks.tolist())):
        means = study.table.score[study.train_rows[tasks == task]].mean(axis=0)
        by_task[task] = dict(zip(names, means.tolist(), strict=True))

    def label(observation: Observation) -> str:
        stream = simulator.stream
        return study.tasks[int(stream.row[0, stream.cursor[0]])]

    return TaskLabelPolicy(by_task, label, prior_count)


def _static_mix(study: Study) -> Dispatcher:
    value = lone_utility(study)
    prompt, output = float(study.train.prompt_tokens.mean()), float(study.train.output_tokens.mean())
    capacity = np.array([capacity_per_s(model, prompt, output) for model in study.models])
    cost = np.array([model.cost_usd(prompt, output) for model in study.models])
    names = [model.name for model in study.models]

    def make(headroom: float) -> Make:
        def build(simulator: QueueSimulator, load: float) -> Policy:
            demand = load * study.capacity
            mix = best_mix(value, cost, capacity_per_s=capacity * headroom, demand_per_s=demand)
            return StaticMixPolicy(dict(zip(names, mix.shares.tolist(), strict=True)))

        return build

    return Dispatcher("static best mix", {f"use {u:.0%}": make(u) for u in (0.6, 0.75, 0.85, 0.95, 1.1, 1.5)})
