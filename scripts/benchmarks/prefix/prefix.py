"""The choice of replica by predicted time to first token, against other ways, in virtual time.

Conversations under shared system prompts: 60 % of all prompt tokens were sent before, half of these within
the same conversation. Each replica's prefix cache evicts as vLLM's block pool does, and all together hold
half of the working set: the system prompts, and the conversations under way. Every turn comes to one of two
ingress replicas at random, each with an estimator of its own. Load 1 is the rate at which engines with every
slot taken would always be at work, at the cached share of the least busy rule. Consistent hashing and Ray's
rule know every queue at once, and Ray's tree is shared by both ingresses.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from tqdm import tqdm

from policies.latency.fit import LatencySample, fit_latency
from policies.latency.model import LatencyModel
from policies.observation import PROMPT_COLUMN, PROMPT_FIELDS
from policies.prompt.style import STYLE_SIZE
from scripts.benchmarks.prefix.engine import EACH_S, FIXED_S, SLOTS, TOKEN_S
from scripts.benchmarks.prefix.pool import INGRESSES, Pool
from scripts.benchmarks.prefix.ways import (
    MODEL,
    BoundedHashWay,
    FirstTokenWay,
    LeastBusyWay,
    RayPrefixWay,
    RoundRobinWay,
    Way,
)
from scripts.benchmarks.prefix.workload import Turn, Workload, made_workload, shares
from scripts.benchmarks.report import Bar, Op, Report, bar, interval
from serve_app.console.text_table import print_table
from serve_app.upstream.prefixes import Prefixes

OURS: Final = "first token"
LEAST_BUSY: Final = "least busy"
WAYS: Final = (
    OURS,
    LEAST_BUSY,
    "round robin",
    "bounded hash of system prompt",
    "Ray prefix affinity",
)
LOADS: Final = (0.5, 0.7, 0.9)
_FULL: Final = 0.7  # the load for which caches are sized and which the bars are about
_WARM: Final = 0.3  # of the time, before anything is measured


@dataclass(frozen=True, slots=True)
class Run:
    """One workload under one way; seconds."""

    p50_s: float
    p95_s: float
    mean_s: float
    cached_share: float  # of prompt tokens
    busiest: float  # over the mean replica: by time at work or by requests, whichever is more


@dataclass(frozen=True, slots=True)
class Setting:
    """One pool and what comes to it; `capacity_per_s` is what least busy carries."""

    replicas: int
    seed: int
    workload: Workload
    kv_tokens: int
    capacity_per_s: float
    latency: LatencyModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="for each replica")
    parser.add_argument("--replicas", type=int, nargs="+", default=[4, 8])


def run(args: argparse.Namespace) -> Report:
    """Every pool, seed, load and way."""
    runs: dict[tuple[int, float, str], list[Run]] = {}
    described: list[dict[str, object]] = []
    cases = [(n, seed) for n in args.replicas for seed in range(1, args.seeds + 1)]
    for replicas, seed in tqdm(cases, desc="pools", disable=None):
        setting, shared = _setting(replicas, seed, args.requests * replicas)
        described.append(
            {
                "replicas": replicas,
                "seed": seed,
                "kv_tokens_of_a_replica": setting.kv_tokens,
                "capacity_per_s": setting.capacity_per_s,
                **shared,
            }
        )
        for load in LOADS:
            for way in WAYS:
                runs.setdefault((replicas, load, way), []).append(_run(setting, way, load))
    hash_us = _hash_us()
    _print(runs)
    results = [
        {"replicas": n, "load": load, "way": way, "seeds": [asdict(one) for one in found]}
        for (n, load, way), found in runs.items()
    ]
    measured = {"hash_us_for_8_kb": hash_us, "pools": described, "runs": results}
    return Report(
        "prefix", (*_bars(runs, args.replicas), bar("us to hash 8 kB", hash_us, "<=", 30.0)), measured
    )


def _setting(replicas: int, seed: int, requests: int) -> tuple[Setting, dict[str, float]]:
    """Size the caches, find what least busy carries, and fit the latency model to what it served."""
    workload = made_workload(requests, replicas, seed)
    turns = [turn for conversation in workload.conversations for turn in conversation]
    request_s = _request_s(turns, 0.0) / replicas / _FULL
    kv_tokens = workload.live_tokens(request_s) // 2 // replicas
    pool = Pool(replicas, kv_tokens, seed)
    pool.run(workload, LeastBusyWay(pool.views, lambda: pool.now_s), request_s)
    capacity = replicas / _request_s(pool.done, _cached_share(pool.done))
    latency = fit_latency([_sample(turn, replicas) for turn in pool.done])
    measured = shares(_measured(pool))
    return Setting(replicas, seed, workload, kv_tokens, capacity, latency), measured


def _request_s(turns: Sequence[Turn], cached_share: float) -> float:
    """An engine's time for a mean request while every slot is taken."""
    prompt, output = (
        float(np.mean([getattr(t, f"{kind}_tokens") for t in turns])) for kind in ("prompt", "output")
    )
    return prompt * (1 - cached_share) * TOKEN_S + output * (EACH_S + FIXED_S / SLOTS)


def _cached_share(turns: Sequence[Turn]) -> float:
    return sum(turn.cached_tokens for turn in turns) / sum(turn.prompt_tokens for turn in turns)


def _measured(pool: Pool) -> list[Turn]:
    """The turns after the caches have filled."""
    return [turn for turn in pool.done if turn.sent_s > _WARM * pool.now_s]


def _sample(turn: Turn, replicas: int) -> LatencySample:
    prompt = np.zeros(len(PROMPT_FIELDS))
    prompt[PROMPT_COLUMN["prompt_tokens"]] = len(turn.text) // 4
    return LatencySample(
        model=MODEL,
        prompt=tuple(prompt.tolist()),
        style=np.zeros(STYLE_SIZE, dtype=np.float32),
        in_flight=0.0,
        slots=float(SLOTS * replicas),
        replicas=float(replicas),
        output_tokens=turn.output_tokens,
        ttft_s=turn.ttft_s,
        tpot_s=None,
    )


def _way(name: str, pool: Pool, setting: Setting) -> Way:
    def clock() -> float:
        return pool.now_s

    made: dict[str, Callable[[], Way]] = {
        OURS: lambda: FirstTokenWay(pool.views, clock, setting.latency),
        LEAST_BUSY: lambda: LeastBusyWay(pool.views, clock),
        WAYS[2]: lambda: RoundRobinWay(INGRESSES, setting.replicas),
        WAYS[3]: lambda: BoundedHashWay(pool.engines),
        WAYS[4]: lambda: RayPrefixWay(pool.engines, clock, setting.seed),
    }
    return made[name]()


def _run(setting: Setting, name: str, load: float) -> Run:
    request_s = 1 / (load * setting.capacity_per_s)
    pool = Pool(setting.replicas, setting.kv_tokens, setting.seed)
    pool.run(setting.workload, _way(name, pool, setting), request_s)
    measured = _measured(pool)
    ttft_s = np.array([turn.ttft_s for turn in measured])
    return Run(
        p50_s=float(np.median(ttft_s)),
        p95_s=float(np.percentile(ttft_s, 95)),
        mean_s=float(ttft_s.mean()),
        cached_share=_cached_share(measured),
        busiest=max(
            _busiest([engine.busy_s for engine in pool.engines]),
            _busiest([float(engine.served) for engine in pool.engines]),
        ),
    )


def _busiest(values: Sequence[float]) -> float:
    return max(values) * len(values) / sum(values)


def _hash_us() -> float:
    """The least of many tries: what the hashing itself takes."""
    prefixes, text = Prefixes(), b"a word " * 1171
    took_s = []
    for _ in range(2000):
        began_s = time.perf_counter()
        prefixes.hashes(text, "0" * 32)
        took_s.append(time.perf_counter() - began_s)
    return min(took_s) * 1e6


def _bars(runs: dict[tuple[int, float, str], list[Run]], pools: Sequence[int]) -> list[Bar]:
    bars = []
    for n in pools:
        for field, limit in (("p50_s", 0.5), ("p95_s", 0.8)):
            mean, spread = _ratio(runs[n, _FULL, OURS], runs[n, _FULL, LEAST_BUSY], field)
            bars.append(bar(f"{field[:3]} TTFT over least busy, {n} replicas", mean, "<=", limit, spread))
        for load in LOADS:
            for field in ("p50_s", "p95_s"):
                others = [way for way in WAYS if way != OURS]
                best = min(others, key=lambda way: _mean(runs[n, load, way], field))
                mean, spread = _ratio(runs[n, load, OURS], runs[n, load, best], field)
                where = f"{n} replicas, load {load:g}"
                name = f"{field[:3]} TTFT over the best other ({best}), less interval, {where}"
                bars.append(bar(name, mean - spread, "<=", 1.0, spread))
        busiest = [interval(one.busiest for one in runs[n, load, OURS]) for load in LOADS]
        bars.append(bar(f"busiest over mean replica, {n} replicas", *_most(busiest, 1.3)))
    return bars


def _most(values: Sequence[tuple[float, float]], limit: float) -> tuple[float, Op, float, float]:
    mean, spread = max(values)
    return mean, "<=", limit, spread


def _mean(runs: Sequence[Run], field: str) -> float:
    return float(np.mean([getattr(one, field) for one in runs]))


def _ratio(ours: Sequence[Run], others: Sequence[Run], field: str) -> tuple[float, float]:
    """Seed by seed, which have the same conversations."""
    pairs = zip(ours, others, strict=True)
    return interval(getattr(one, field) / getattr(other, field) for one, other in pairs)


def _print(runs: dict[tuple[int, float, str], list[Run]]) -> None:
    fields = ("p50_s", "p95_s", "mean_s", "cached_share", "busiest")
    rows = [(n, load, way, *(_mean(found, one) for one in fields)) for (n, load, way), found in runs.items()]
    print_table(("replicas", "load", "way", *fields), rows, title="prefix")
