"""Lives of a pool: does it ever promote what is not better, and how soon what is?

A candidate a day, with a planted effect; the served gates (policies.promotion.gates), the served canary on
slices of time, the served spending of the chance of a mistake, and a second look where a gate asks for
evidence. Nothing is trained: a candidate is its effect and the noise with which each gate sees it.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from policies.arrays import F64
from policies.promotion.canary import Canary, CanarySettings
from policies.promotion.gates import (
    GAIN_GATE,
    Evidence,
    GateSettings,
    LiveLog,
    PairedEvidence,
    Simulated,
    Verdict,
    judge,
)
from policies.promotion.ope import Log
from policies.promotion.rollout import Candidate, Stage
from policies.promotion.slices import WASHOUT, Slice, schedule
from policies.promotion.spending import level
from scripts.benchmarks.load.jobs import run_all
from scripts.benchmarks.report import Report, bar
from serve_app.console.text_table import print_table

NULL, WORSE, BETTER = 0.0, -0.005, 0.02
SHARES: Final = {NULL: 0.6, WORSE: 0.3, BETTER: 0.1}
ITEMS: Final = 1_000
MORE_ITEMS: Final = 50  # graded until a second look
ITEM_DEVIATION: Final = 0.2  # of the gain on one item
EPISODE_DEVIATION: Final = 0.01  # of the gain in one simulated episode
LATENCY_S: Final = 5.0  # that 99 % of the requests have
REQUEST_DEVIATION: Final = 0.2  # of a live reward, less what its prompt lets expect
SLICE_DEVIATION: Final = 0.02  # of all rewards of a slice together
LOG_ROWS: Final = 500
CHANGED: Final = 0.2  # share of the requests for which a candidate chooses another model
FALSE_PROMOTIONS: Final = 0.05
COOLDOWN_DAYS: Final = 600.0 / 86_400.0
DAY_S: Final = 86_400.0
SOON_DAYS: Final = 14.0
GATES: Final = GateSettings()
CANARY: Final = CanarySettings()


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one candidate."""

    effect: float
    came_day: float
    ended_day: float
    end: str  # the gate that stopped it, `promoted`, or how its canary ended


@dataclass(slots=True)
class Life:
    """One pool: what it has spent, and how much better than the rule what serves is."""

    rng: np.random.Generator
    requests_per_day: float
    tests: int = 0
    gained: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--lives", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--requests", type=float, default=10_000.0, help="requests a day")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)


def _paired(gains: F64, over_rule: F64) -> PairedEvidence:
    """Items on which the candidate takes the first model, the incumbent the second, the rule the third."""
    one = np.eye(3)
    count = len(gains)
    return PairedEvidence(
        np.tile(one[0], (count, 1)),
        np.tile(one[1], (count, 1)),
        np.tile(one[2], (count, 1)),
        np.stack([gains, np.zeros(count), gains - over_rule], axis=1),
        {"task": [f"task {i % 4}" for i in range(count)]},
    )


def _simulated(life: Life, effect: float) -> dict[str, Simulated]:
    found = {}
    for name in ("usual", "burst", "square"):
        base, noise = life.rng.normal(0.6, 0.02, 8), life.rng.normal(effect, EPISODE_DEVIATION, (2, 8))
        incumbent = base - noise[0]
        others = {"priced": base - noise[1] - life.gained, "least loaded": base - 0.1}
        found[name] = Simulated(base, {"incumbent": incumbent, **others})
    return found


def _live(life: Life, effect: float) -> LiveLog:
    """A log of the incumbent, with exploration; the effect comes from the choices that change."""
    rng = life.rng
    usual, other = np.array([0.85, 0.1, 0.05]), np.array([0.1, 0.85, 0.05])
    changed = rng.random(LOG_ROWS) < CHANGED
    logging = np.tile(0.95 * usual + 0.05 / 3.0, (LOG_ROWS, 1))
    actions = (rng.random(LOG_ROWS)[:, None] > logging.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    gain = effect / (0.75 * CHANGED)
    rewards = (0.6 + gain * (actions == 1) * changed + rng.normal(0.0, 0.15, LOG_ROWS)).clip(0.0, 1.0)
    log = Log(actions, rewards, logging, np.full((LOG_ROWS, 3), 0.6))
    incumbent = np.tile(usual, (LOG_ROWS, 1))
    return LiveLog(log, np.where(changed[:, None], other, incumbent), incumbent)


def _gates(life: Life, effect: float) -> tuple[list[Verdict], float]:
    """The verdicts, and the level that the canary may spend; a second look where one is asked for."""
    rng, count = life.rng, ITEMS + MORE_ITEMS
    gains = rng.normal(effect, ITEM_DEVIATION, count)
    over_rule = gains + rng.normal(life.gained, ITEM_DEVIATION, count)
    verdicts: list[Verdict] = []
    for items in (ITEMS, count):
        alpha = level(FALSE_PROMOTIONS, life.tests + 1)
        paired = _paired(gains[:items], over_rule[:items])
        evidence = Evidence(lambda: paired, lambda: _simulated(life, effect), lambda: _live(life, effect))  # noqa: B023
        verdicts = judge(evidence, GATES, alpha)
        if any(verdict.gate == GAIN_GATE for verdict in verdicts):
            life.tests += 1
        if not verdicts[-1].needs_evidence:
            break
    return verdicts, alpha / 2.0


def _canary(
    life: Life, effect: float, candidate: Candidate, settings: CanarySettings
) -> tuple[Canary, float]:
    """The candidate on live traffic from the shadow on, and how many days that took."""
    per_s = life.requests_per_day / DAY_S
    now_s = settings.shadow_requests / per_s
    canary = Canary(candidate, settings)
    canary.shadowed(settings.shadow_requests, 0, now_s, LATENCY_S, per_s)
    number = 0
    while canary.state.on_trial:
        step = len(canary.state.steps) - 1
        slices = schedule(canary.state)
        size = slices.block
        counts = life.rng.poisson(per_s * slices.slice_s * (1.0 - WASHOUT), size)
        noise = life.rng.normal(0.0, 1.0, (2, size))
        block = []
        for i in range(size):
            tested, count = slices.is_tested(number + i), int(counts[i])
            mean = effect * tested + SLICE_DEVIATION * noise[0, i]
            surplus = count * mean + REQUEST_DEVIATION * count**0.5 * noise[1, i]
            block.append(Slice(step, number + i, tested, count, surplus))
        number += size
        now_s = slices.start_s(number)
        canary.judge(block, now_s)
        canary.prove(block)
        if len(canary.looked(now_s).steps) > step + 1:
            number = 0
    return canary, now_s / DAY_S


def live(days: int, requests_per_day: float, settings: CanarySettings, seed: int) -> list[Fate]:
    """One life. While one candidate is on trial the next waits, as the learner trains none meanwhile."""
    life = Life(np.random.default_rng([seed, 31]), requests_per_day)
    free_day, fates = 0.0, []
    for day in range(days):
        effect = float(life.rng.choice(list(SHARES), p=list(SHARES.values())))
        start_day = max(float(day), free_day)
        verdicts, alpha = _gates(life, effect)
        if not verdicts[-1].passed:
            fates.append(Fate(effect, day, start_day, verdicts[-1].gate))
            continue
        owes = any(verdict.owes_gain for verdict in verdicts)
        candidate = Candidate(seed * 1_000 + day, Stage.SHADOW, level=alpha, owes_gain=owes)
        canary, took_days = _canary(life, effect, candidate, settings)
        free_day = start_day + took_days + COOLDOWN_DAYS
        end = canary.state.stage.value if canary.state.stage is Stage.PROMOTED else canary.state.reason
        if canary.state.stage is Stage.PROMOTED:
            life.gained += effect
        fates.append(Fate(effect, day, start_day + took_days, _short(end)))
    return fates


def _short(reason: str) -> str:
    """How a canary ended, without its numbers."""
    known = {"a gain of": "no gain", "reward": "harm", "promoted": "promoted"}
    return next((short for start, short in known.items() if reason.startswith(start)), "no decision")


def _one(days: int, requests: float, seed: int) -> list[Fate]:
    return live(days, requests, CANARY, seed)


def run(args: argparse.Namespace) -> Report:
    """All lives."""
    seeds = [args.seed * 100_000 + i for i in range(args.lives)]
    lives = run_all(partial(_one, args.days, args.requests), seeds, args.processes, "lives")
    fooled = [any(fate.end == "promoted" and fate.effect <= 0.0 for fate in life) for life in lives]
    better = [fate for life in lives for fate in life if fate.effect == BETTER]
    soon = [fate.end == "promoted" and fate.ended_day - fate.came_day <= SOON_DAYS for fate in better]
    wrong, right = float(np.mean(fooled)), float(np.mean(soon))
    took = [fate.ended_day - fate.came_day for fate in better if fate.end == "promoted"]
    ends = {
        str(effect): Counter(fate.end for life in lives for fate in life if fate.effect == effect)
        for effect in SHARES
    }
    print_table(("effect", "ends"), [(effect, str(dict(counts))) for effect, counts in ends.items()])
    return Report(
        "lifetime",
        (
            bar("lives that promote anything null or worse", wrong, "<=", 0.05, _half(wrong, len(lives))),
            bar("better ones promoted within 14 days", right, ">=", 0.8, _half(right, len(better))),
        ),
        {
            "effort": {"lives": args.lives, "days": args.days, "requests_per_day": args.requests},
            "planted": _planted(),
            "canary": CANARY.model_dump(),
            "ends": {effect: dict(counts) for effect, counts in ends.items()},
            "days_to_promotion": dict(zip(("p50", "p95"), np.quantile(took, (0.5, 0.95)), strict=True)),
            "gates": GATES.model_dump(),
        },
    )


def _half(share: float, count: int) -> float:
    return 1.96 * float(np.sqrt(share * (1.0 - share) / max(count, 1)))


def _planted() -> Mapping[str, float]:
    return {
        "item_deviation": ITEM_DEVIATION,
        "episode_deviation": EPISODE_DEVIATION,
        "request_deviation": REQUEST_DEVIATION,
        "slice_deviation": SLICE_DEVIATION,
        "latency_s": LATENCY_S,
    }
