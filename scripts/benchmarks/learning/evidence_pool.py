"""A small simulated pool in which each slice of time is served by one of two versions, as the canary says."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from deployments.learning.live_evidence import shed_reward
from policies import observation as column
from policies.arrays import F64
from policies.compiled import compiled
from policies.formula import masked_softmax
from policies.learned.policy import LearnedPolicy
from policies.priced import priced_logits
from policies.promotion.canary import Canary, CanarySettings
from policies.promotion.rollout import Candidate, Stage
from policies.promotion.slices import SlicedRequest, serves
from policies.simulator.arrivals import Trace, poisson
from policies.simulator.queues import DONE, EXPIRED, OPEN, REJECTED, Queues
from policies.simulator.scenario import pool_capacity_per_s
from policies.simulator.simulator import QueueSimulator
from policies.simulator.spec import ModelSpec
from policies.simulator.step import ObservationBatch, Stream, Table, step
from policies.simulator.workload import Episode, QualityTable, episode_from_trace, synthetic_quality
from policies.utility import DEFAULT_BETA

RULE: Final = 0
SELFISH: Final = 1  # takes the best answer, whoever waits for it
HASTY: Final = 2  # hears little of the quality model
LEARNED: Final = 3
HASTE: Final = 0.0  # of what is predicted to differ between models is heard
CALLER: Final = np.array([1.0, 1.0, 0.2, 10.0])
DEADLINE_S: Final = 30.0
ROWS: Final = 4_000
_CHUNK: Final = 32  # decisions between looks at what has finished
_SHADOW: Final = 200  # requests
_NORM: Final = float(CALLER[:3].sum())
_LEAST: Final = float(CALLER[1] + CALLER[2])
_SHED: Final = shed_reward(CALLER.tolist())  # as the learner reads a request that was refused for load


def models() -> list[ModelSpec]:
    """Three models of four slots, the stronger the slower."""
    return [
        ModelSpec(
            f"model-{i}",
            step_base_s=0.008 * 5.5**rank,
            step_per_sequence_s=0.0003 * 3.0**rank,
            prefill_tokens_per_s=20_000.0 / 6.0**rank,
            slots=4,
            kv_tokens=60_000,
            prompt_usd_per_mtok=0.05 * 20.0**rank,
            completion_usd_per_mtok=0.2 * 20.0**rank,
        )
        for i, rank in enumerate((0.0, 0.5, 1.0))
    ]


@dataclass(frozen=True, slots=True)
class Kind:
    """How a version decides, and what becomes of its requests beyond that."""

    name: str
    chooses: int = RULE
    breaks: float = 0.0  # share of its requests that fail
    rescued: float = 0.0  # share that another model has to answer in the end
    policy: LearnedPolicy | None = None


@compiled(fused=False)
def _seed(seed: int) -> None:
    np.random.seed(seed)


@compiled(fused=False)
def _decide(
    q: Queues, s: Stream, table: Table, o: ObservationBatch, chooses: int, count: int, until_s: float
) -> int:
    """Up to `count` decisions on requests that arrive before `until_s`; how many there were."""
    active, ended = np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)
    action = np.zeros(1, dtype=np.int64)
    made = 0
    while made < count and s.cursor[0] < s.length[0] and s.arrival_s[0, s.cursor[0]] < until_s:
        rows, mask = o.rows[0].astype(np.float64), o.mask[0] > 0
        if chooses == SELFISH:
            rows[:, column.IN_FLIGHT] = rows[:, column.TTFT_S] = rows[:, column.E2E_S] = 0.0
        elif chooses == HASTY:
            mean = rows[:, column.ACCURACY].mean()
            rows[:, column.ACCURACY] = mean + HASTE * (rows[:, column.ACCURACY] - mean)
        caller, prompt = o.caller[0].astype(np.float64), o.prompt[0].astype(np.float64)
        pi = masked_softmax(priced_logits(rows, prompt, caller, mask, DEFAULT_BETA), mask)
        u, total = np.random.random(), 0.0
        for m in range(len(pi)):
            total += pi[m]
            if pi[m] > 0.0:
                action[0] = m
            if u < total:
                break
        step(q, s, table, o, action, active, ended)
        made += 1
    return made


class World:
    """One pool with its requests, served by whoever's turn it is."""

    def __init__(self, load: float, requests: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 21])
        self.quality = synthetic_quality(3, ROWS, 5)
        self.simulator = QueueSimulator(
            models(), self.quality, 1, deadline_s=DEADLINE_S, cost_scale_usd=cost_scale_usd(), seed=seed,
            requests_kept=8192,
        )  # fmt: skip
        self.episode = episode(load, requests, self.quality, self.rng)
        self.simulator.load(0, self.episode)
        self.simulator.look(0)
        _seed(seed)
        self._pending = np.zeros(0, dtype=np.int64)
        self._tested = np.zeros(requests + 1, dtype=np.bool_)
        self._fate = self.rng.random(requests + 1)
        self.usual = self._usual()
        self.rewards: list[float] = []  # true ones, of all that ended
        self.answered = 0  # of them, how many were not refused

    def _usual(self) -> F64:
        """[T] normalised reward that each prompt lets expect, whoever decides."""
        table, rows = self.quality, self.episode.row
        return (CALLER[0] * table.accuracy[rows].mean(axis=1) + _LEAST - 0.5 * CALLER[2]) / _NORM

    @property
    def cursor(self) -> int:
        """Number of the request that waits."""
        return int(self.simulator.stream.cursor[0])

    @property
    def now_s(self) -> float:
        """Its time."""
        return float(self.episode.arrival_s[self.cursor])

    @property
    def is_over(self) -> bool:
        """Whether all requests were decided."""
        return self.cursor >= len(self.episode.arrival_s) - 1

    @property
    def oldest_open_s(self) -> float:
        """All requests that arrived before have ended."""
        if not len(self._pending):
            return self.now_s
        return float(self.episode.arrival_s[self._pending.min()]) - 1e-6

    def decide(self, kind: Kind, tested: bool, count: int, until_s: float) -> int:
        """Let a version decide the next requests, up to `count` and before `until_s`."""
        first, sim = self.cursor, self.simulator
        if kind.policy is None:
            made = _decide(sim.queues, sim.stream, sim.table, sim.observations, kind.chooses, count, until_s)
        else:
            made = 0
            while made < count and not self.is_over and self.now_s < until_s:
                decision = kind.policy.decide(sim.observation(0), int(self.rng.integers(2**62)))
                sim.step(np.array([decision.index], dtype=np.int64))
                made += 1
        self._tested[first : first + made] = tested
        self._pending = np.concatenate([self._pending, np.arange(first, first + made)])
        return made

    def ended(self, kind: Kind) -> list[SlicedRequest]:
        """Requests that ended since the last call, as the learner reads them; `kind` is on trial."""
        kept = self.simulator.queues.requests[0]
        asked = kept[self._pending % len(kept)]
        done = asked["outcome"] != OPEN
        numbers, asked, self._pending = self._pending[done], asked[done], self._pending[~done]
        order = np.argsort(asked["arrival_s"] + asked["e2e_s"], kind="stable")
        numbers, asked = numbers[order], asked[order]
        tested, fate = self._tested[numbers], self._fate[numbers]
        true = (asked["reward"] + _LEAST) / _NORM
        rows = self.episode.row[numbers]
        predicted = self.quality.accuracy[rows, asked["model"]]
        shed = np.isin(asked["outcome"], (REJECTED, EXPIRED))
        seen = true + CALLER[0] * (predicted - asked["score"]) / _NORM
        broken = tested & ~shed & (fate < kind.breaks)
        rescued = tested & ~shed & ~broken & (fate < kind.breaks + kind.rescued)
        true = np.where(broken, 0.0, true - rescued * CALLER[0] * asked["score"] / _NORM)
        seen = np.where(broken, 0.0, seen - rescued * CALLER[0] * predicted / _NORM)
        seen = np.where(shed, _SHED, seen)
        self.rewards.extend(true.tolist())
        self.answered += int((~shed).sum())
        columns = tested, asked["arrival_s"], seen - self.usual[numbers], broken | rescued
        return [SlicedRequest(*one) for one in zip(*(values.tolist() for values in columns), strict=True)]


def cost_scale_usd() -> float:
    """The dearest model's mean cost."""
    return models()[-1].cost_usd(1_000.0, 200.0)


def episode(load: float, requests: int, quality: QualityTable, rng: np.random.Generator) -> Episode:
    """Poisson arrivals at `load` times the pool's capacity."""
    drawn = lengths(requests + 1, rng)
    rate = load * pool_capacity_per_s(models(), drawn)
    trace = Trace(poisson(rate, requests + 1, rng), drawn.prompt_tokens, drawn.output_tokens)
    return episode_from_trace(trace, np.arange(ROWS), CALLER, 0.6, rng)


def lengths(count: int, rng: np.random.Generator) -> Trace:
    """Requests of medians of 400 and 120 tokens, none of them very long: a slice holds a few hundred."""
    prompt = np.rint(np.exp(rng.normal(np.log(400.0), 0.7, count)).clip(8, 2_000))
    output = np.rint(np.exp(rng.normal(np.log(120.0), 0.5, count)).clip(8, 400))
    return Trace(poisson(5.0, count, rng), prompt, output)


def alone(kind: Kind, load: float, requests: int, seed: int) -> tuple[float, float]:
    """Mean true reward of a version that serves the whole pool, and the share that is not refused."""
    world = World(load, requests, seed)
    while not world.is_over:
        world.decide(kind, True, 1_000, math.inf)
        world.ended(kind)
    world.ended(kind)
    return float(np.mean(world.rewards)), world.answered / len(world.rewards)


@dataclass(frozen=True, slots=True)
class Trial:
    """How the canary of a candidate ended."""

    stage: str
    reason: str
    estimate: float  # mean difference of its blocks
    blocks: int
    slice_s: float
    requests: int
    spread: float  # standard deviation of the blocks' differences


def trial(
    kind: Kind, incumbent: Kind, load: float, requests: int, seed: int, settings: CanarySettings, level: float
) -> Trial:
    """The served canary on a candidate, from the shadow on."""
    world = World(load, requests, seed)
    canary = Canary(Candidate(seed + 1, Stage.SHADOW, level=level), settings)
    e2e_s = _shadow(world, incumbent)
    longest_s = float(np.quantile(e2e_s, 0.99))
    canary.shadowed(_SHADOW, 0, world.now_s, longest_s, _SHADOW / max(world.now_s, 1.0))
    while not world.is_over and canary.state.stage is Stage.CANARY:
        _slice(world, canary, kind, incumbent)
    found = canary.differences
    return Trial(
        canary.state.stage.value,
        canary.state.reason,
        float(np.mean(found)) if found else math.nan,
        len(found),
        canary.state.slice_s,
        world.cursor,
        float(np.std(found)) if found else math.nan,
    )


def _shadow(world: World, incumbent: Kind) -> F64:
    """Latencies of the requests in shadow."""
    made = 0
    while made < _SHADOW:
        made += world.decide(incumbent, False, _SHADOW - made, math.inf)
    asked = world.simulator.requests(0, 0, _SHADOW)
    world.ended(incumbent)
    return asked["e2e_s"][asked["outcome"] == DONE]


def _slice(world: World, canary: Canary, kind: Kind, incumbent: Kind) -> None:
    """A few decisions of one slice, and a look at what has ended."""
    state, now_s = canary.state, world.now_s
    began_s = state.steps[-1].began_s
    until_s = began_s + (math.floor((now_s - began_s) / state.slice_s) + 1) * state.slice_s
    until_s = max(until_s, math.nextafter(now_s, math.inf))  # whatever the rounding, one decision is made
    tested = serves(state, now_s)
    world.decide(kind if tested else incumbent, tested, _CHUNK, until_s)
    ended = world.ended(kind)
    for request in ended:
        canary.finished(request)
        canary.with_votes(request)
    open_s = world.oldest_open_s
    canary.looked(world.now_s, open_s, open_s)
