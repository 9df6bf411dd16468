"""The gates against 100 bad and 100 better candidates of known truth: who is promoted, who is stopped where.

Each candidate takes the real way: checkpoint loading, gates A to C with more evidence where they ask for
it, then the canary on live traffic. Bad ones are worse on average, worse on one slice, faster but wrong,
non-finite, stale, flattered by the simulator, fitted to the evaluation items, or blind to load.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
from safetensors.numpy import save
from scipy import stats
from tqdm import tqdm

from policies.arrays import F64
from policies.learned.checkpoint import new_manifest
from policies.promotion.canary import Canary, CanarySettings
from policies.promotion.gates import Evidence, GateSettings, Verdict, judge, load_gate
from policies.promotion.rollout import Candidate as OnTrial
from policies.promotion.rollout import Stage
from policies.promotion.slices import SlicedRequest, serves
from policies.promotion.spending import level
from policies.training.network import DispatchNetwork
from scripts.benchmarks.learning.safety_world import (
    ACCURACY_WEIGHT,
    MODELS,
    SPEED,
    Chooser,
    Prompts,
    World,
    incumbent,
    softmax,
)
from scripts.benchmarks.report import Report, bar
from serve_app.console.text_table import print_table

ITEMS: Final = (200, 400, 800, 1600, 3200)  # paired items, one step more whenever a gate asks
LOGGED: Final = (4_000, 16_000, 64_000)
TRAFFIC_PER_S: Final = 10.0
CANARY_REQUESTS: Final = 60_000
FALSE_PROMOTIONS: Final = 0.05  # chance that this may spend over all looks at a candidate
SETTINGS: Final = CanarySettings(ladder=(0.2, 0.5), min_slice_s=10.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--candidates", type=int, default=100, help="bad ones, and as many better ones")
    parser.add_argument("--seed", type=int, default=0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate: how it chooses, what a checkpoint of it looks like, who flatters it."""

    kind: str
    choose: Chooser
    checkpoint: bytes
    expected: frozenset[str]  # gates of which one should stop it; empty for a better one
    flattery: float = 0.0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a candidate, and on how much evidence."""

    kind: str
    gain: float  # true, over the incumbent
    stopped_by: str  # "" when promoted
    reason: str
    items: int
    logged: int
    canary_requests: int
    as_expected: bool


def _leaning(strength: float) -> Chooser:
    """Knows more (strength > 0) or the opposite (strength < 0) of what the quality model knows."""

    def choose(prompts: Prompts) -> F64:
        return softmax(prompts.worth(prompts.known + strength * (prompts.quality - prompts.known)))

    return choose


def _wrong(prompts: Prompts) -> F64:
    return softmax(prompts.worth(1.0 - prompts.known))


def _worse_on_slice(group: int) -> Chooser:
    better = _leaning(0.8)

    def choose(prompts: Prompts) -> F64:
        hit = (prompts.group // 2 == group)[:, None]
        return np.where(hit, _wrong(prompts), better(prompts))

    return choose


def _fast(prompts: Prompts) -> F64:
    return softmax(np.tile(SPEED, (len(prompts), 1)) + 0.0 * prompts.known)


def _fitted_to_suite(prompts: Prompts) -> F64:
    return _leaning(0.8)(prompts) if prompts.suite else _wrong(prompts)


def _load_blind(prompts: Prompts) -> F64:
    sure = np.zeros((len(prompts), MODELS))
    best = (ACCURACY_WEIGHT * prompts.quality + 0.05 * np.arange(MODELS)).argmax(axis=1)
    sure[np.arange(len(prompts)), best] = 1.0
    return sure


def _checkpoint(seed: int) -> bytes:
    network = DispatchNetwork(hidden=16, seed=seed)
    return _dump(network, {})


def _dump(network: DispatchNetwork, change: dict[str, int]) -> bytes:
    """A checkpoint file as its manifest says, or with fields of the manifest changed."""
    tensors = {
        name: value.detach().numpy().astype(np.float32) for name, value in network.state_dict().items()
    }
    manifest = replace(new_manifest(tensors, beta=20.0, hidden=16, data_range={}), **change)  # type: ignore[arg-type]
    return save(tensors, metadata={"manifest": json.dumps(asdict(manifest), sort_keys=True)})


def _damaged(kind: str, seed: int) -> bytes:
    network = DispatchNetwork(hidden=16, seed=seed)
    if kind == "stale features":
        return _dump(network, {"observation_version": 0})
    for value in network.state_dict().values():
        value.view(-1)[0] = math.nan
    return _dump(network, {})


def _bad(index: int, seed: int) -> Candidate:
    """The bad candidates in turn, one of each kind."""
    loads = _checkpoint(seed)
    kinds: tuple[Callable[[], Candidate], ...] = (
        lambda: Candidate("worse on average", _leaning(-0.9 - 0.2 * (seed % 3)), loads, frozenset("A")),
        lambda: Candidate("worse on one slice", _worse_on_slice(seed % 4), loads, frozenset("A")),
        lambda: Candidate("faster but wrong", _fast, loads, frozenset("A")),
        lambda: Candidate("non-finite", _leaning(0.8), _damaged("non-finite", seed), frozenset({"load"})),
        lambda: Candidate(
            "stale features", _leaning(0.8), _damaged("stale features", seed), frozenset({"load"})
        ),
        lambda: Candidate("exploits the simulator", _wrong, loads, frozenset("A"), flattery=0.3),
        lambda: Candidate(
            "fitted to the suite", _fitted_to_suite, loads, frozenset({"C", "D"}), flattery=0.3
        ),
        lambda: Candidate("blind to load", _load_blind, loads, frozenset("AB")),
    )
    return kinds[index % len(kinds)]()


def _good(index: int, seed: int) -> Candidate:
    return Candidate("better", _leaning(0.5 + 0.1 * (index % 5)), _checkpoint(seed), frozenset())


def _gain(world: World, choose: Chooser, seed: int) -> float:
    prompts = world.prompts(20_000, np.random.default_rng([seed, 9]), suite=False)
    worth = prompts.worth(prompts.quality)
    return float(((choose(prompts) - incumbent(prompts)) * worth).sum(axis=1).mean())


def _evidence(world: World, candidate: Candidate, seed: int, items: int, logged: int) -> Evidence:
    return Evidence(
        paired=lambda: world.paired(candidate.choose, items, seed),
        simulated=lambda: world.simulated(candidate.choose, candidate.flattery, seed),
        live=lambda: world.live(candidate.choose, logged, seed),
    )


def _offline(world: World, candidate: Candidate, seed: int) -> tuple[Verdict, OnTrial, int, int]:
    """The last verdict of the offline gates, the candidate after it, and the evidence that it took."""
    items, logged = 0, 0
    while True:
        evidence = _evidence(world, candidate, seed, ITEMS[items], LOGGED[logged])
        alpha = level(FALSE_PROMOTIONS, items + 1)
        verdicts = judge(evidence, GateSettings(), alpha)
        last, owes = verdicts[-1], any(verdict.owes_gain for verdict in verdicts)
        if last.gate in {"A", "gain"} and last.needs_evidence and items + 1 < len(ITEMS):
            items += 1
        elif last.gate == "C" and last.needs_evidence and logged + 1 < len(LOGGED):
            logged += 1
        else:
            on_trial = OnTrial(1, Stage.SHADOW, level=alpha / 2.0, owes_gain=owes)
            return last, on_trial, ITEMS[items], LOGGED[logged]


def _canary(world: World, candidate: Candidate, on_trial: OnTrial, seed: int) -> Canary:
    """The candidate on live traffic: each slice of one stream of prompts is answered by one version."""
    rng = np.random.default_rng([seed, 4])
    prompts = world.prompts(CANARY_REQUESTS, rng, suite=False)
    usual, trial = incumbent(prompts), candidate.choose(prompts)
    expected = (usual * prompts.worth(prompts.known)).sum(axis=1)
    answered = prompts.worth(rng.binomial(1, prompts.quality).astype(np.float64))
    canary = Canary(on_trial, SETTINGS)
    canary.shadowed(SETTINGS.shadow_requests, 0, 0.0, 1.0, TRAFFIC_PER_S)
    u = rng.random(CANARY_REQUESTS)
    for i in range(CANARY_REQUESTS):
        at_s = i / TRAFFIC_PER_S
        tested = serves(canary.state, at_s)
        pi = trial[i] if tested else usual[i]
        model = min(int((u[i] > pi.cumsum()).sum()), MODELS - 1)
        request = SlicedRequest(tested, at_s, float(answered[i, model] - expected[i]), failed=False)
        canary.finished(request)
        canary.with_votes(request)
        if i % 50 == 0 and canary.looked(at_s, at_s - 0.1, at_s - 0.1).stage is not Stage.CANARY:
            break
    return canary


def _fate(candidate: Candidate, seed: int) -> Fate:
    world = World(seed)
    gain = _gain(world, candidate.choose, seed)
    loaded, _ = load_gate(candidate.checkpoint)
    if not loaded.passed:
        return _end(candidate, gain, "load", loaded.reason, 0, 0, 0)
    verdict, on_trial, items, logged = _offline(world, candidate, seed)
    if not verdict.passed:
        return _end(candidate, gain, verdict.gate, verdict.reason, items, logged, 0)
    canary = _canary(world, candidate, on_trial, seed)
    stopped = "" if canary.state.stage is Stage.PROMOTED else "D"
    return _end(candidate, gain, stopped, canary.state.reason, items, logged, canary.candidate.count)


def _end(
    candidate: Candidate, gain: float, stopped_by: str, reason: str, items: int, logged: int, canary: int
) -> Fate:
    right = stopped_by in candidate.expected if candidate.expected else stopped_by == ""
    return Fate(candidate.kind, gain, stopped_by, reason, items, logged, canary, right)


def _upper(count: int, total: int) -> float:
    """Upper end of the one-sided 95 % Clopper-Pearson bound, in candidates of `total`."""
    return total * (float(stats.beta.ppf(0.95, count + 1, total - count)) if count < total else 1.0)


def run(args: argparse.Namespace) -> Report:
    """Judge all candidates and hold the counts against the bars."""
    seeds = [args.seed * 10_000 + i for i in range(args.candidates)]
    with tqdm(total=2 * len(seeds), desc="candidates", unit="candidate") as progress:
        fates = []
        for make in (_bad, _good):
            for i, seed in enumerate(seeds):
                fates.append(_fate(make(i, seed), seed))
                progress.update()
    kinds = sorted({fate.kind for fate in fates})
    rows = [_summary(kind, [fate for fate in fates if fate.kind == kind]) for kind in kinds]
    print_table(("kind", "drawn", "true gain", "promoted", "stopped by", "items", "logged", "canary"), rows)
    bad = [fate for fate in fates if fate.kind != "better"]
    better = [fate for fate in fates if fate.kind == "better"]
    slipped = sum(fate.stopped_by == "" for fate in bad)
    promoted = sum(fate.stopped_by == "" for fate in better)
    right = sum(fate.as_expected for fate in bad)
    half = 1.96 * math.sqrt(promoted * (len(better) - promoted) / len(better)) if better else 0.0
    bars = (
        bar("safety.bad_promoted.upper", _upper(slipped, len(bad)) / len(bad), "<=", 0.05),
        bar("safety.better_promoted", promoted / len(better), ">=", 0.80, half / len(better)),
        bar("safety.stopped_where_expected", right / len(bad), ">=", 0.95),
    )
    return Report("safety", bars, {"fates": [asdict(fate) for fate in fates]})


def _summary(kind: str, fates: list[Fate]) -> tuple[object, ...]:
    stops = Counter(fate.stopped_by for fate in fates if fate.stopped_by)
    told = ", ".join(f"{gate} {count}" for gate, count in sorted(stops.items()))
    mean = float(np.mean([fate.gain for fate in fates]))
    return (
        kind,
        len(fates),
        mean,
        sum(fate.stopped_by == "" for fate in fates),
        told,
        int(np.median([fate.items for fate in fates])),
        int(np.median([fate.logged for fate in fates])),
        int(np.median([fate.canary_requests for fate in fates])),
    )
