"""Replicas over a compressed day: our plan with scale to zero against Ray Serve's own policy, on real Ray.

Two models follow recorded days, a third is named a few times only. Serve's policy has its own delays divided
by the compression, and of six targets the best on another day, which is chosen in a quick imitation. Requests
that reach replicas by HTTP wake nobody in Serve, so there every model keeps one replica.

A start costs seconds of CPU whatever the compression. Where a day is so short that Serve's policy, with its
delays, stops replicas which have not come up yet, processes that start and end fill a small machine, and the
machine is measured: the last bar tells that. Take a longer day then.
"""

import argparse
import asyncio
import copy
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from deployments import sse
from deployments.model.autoscaling import ONGOING_REQUESTS, PLANNED_REPLICAS
from policies.arrays import F64
from policies.scaling import Goal
from scripts.benchmarks.report import Report, bar
from scripts.benchmarks.scaling.day import DAY_S, Stream, arrivals, few, merged, recorded_days
from scripts.benchmarks.scaling.imitation import Engine, PlanScaler, ServeScaler, imitate
from scripts.benchmarks.serving.private_pool import Document, document, simulated_model, started

STREAMS: Final = (Stream("main", "m-large", 14.0), Stream("side", "m-mid", 10.0))
AUTO: Final = "main"  # the one model that dispatch may choose
RARE: Final = "rare"
VISITS, EACH = 2, 3  # of the rare model
TARGETS: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # ongoing requests a replica, for Serve's policy
GOOD: Final = 0.99  # share in time that our plan is told to keep, and that a target of Serve's is chosen for
SLOTS, STEP_S, MEAN_TOKENS, MOST = 4, 0.0125, 24, 4
SERVE_UP_S, SERVE_DOWN_S, SERVE_LOOK_S = 30.0, 600.0, 30.0  # Serve's defaults
RUNNING_SHARE: Final = 0.7  # below it starts and ends are what was measured
_SAMPLE_S: Final = 0.25
_WARM_UP_S: Final = 20.0
_STATES: Final = ("STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "PENDING_MIGRATION")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    default = Path("../shared/data/arrivals/servegen_rate_10min.csv")
    parser.add_argument("--arrivals", type=Path, default=default, help=f"recorded rates (default {default})")
    parser.add_argument("--day", type=int, default=8, help="day that is replayed (8)")
    parser.add_argument("--chosen-on", type=int, default=3, help="day on which Serve's target is chosen (3)")
    parser.add_argument("--seconds", type=float, default=900.0, help="what a day is compressed to (900)")
    parser.add_argument("--target-ttft-s", type=float, default=0.5, help="target of the first token (0.5)")
    parser.add_argument("--start-s", type=float, default=4.0, help="a replica's start, in the imitation (4)")
    parser.add_argument("--seed", type=int, default=1, help="of the requests' times (1)")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: TTFT is infinite where it failed."""

    model: str
    at_s: float
    ttft_s: float
    error: str


@dataclass(frozen=True, slots=True)
class Course:
    """A day under one policy."""

    replica_s: dict[str, float]  # by model, starting and leaving replicas included
    running_s: dict[str, float]  # the same while they run
    asked: tuple[Asked, ...]

    def summary(self, target_s: float) -> dict[str, Any]:
        """What is stored."""
        by_model = {name: [one for one in self.asked if one.model == name] for name in self.replica_s}
        waits = {name: np.array([one.ttft_s for one in asked]) for name, asked in by_model.items()}
        return {
            "replica_s": {**self.replica_s, "all": sum(self.replica_s.values())},
            "running_s": {**self.running_s, "all": sum(self.running_s.values())},
            "share_in_target": {
                **{name: float((seen <= target_s).mean()) for name, seen in waits.items()},
                "all": self.share(target_s),
            },
            "ttft_p99_s": {
                name: float(np.quantile(seen[np.isfinite(seen)], 0.99)) for name, seen in waits.items()
            },
            "requests": {name: len(asked) for name, asked in by_model.items()},
            "failed": [f"{one.model} at {one.at_s:.1f} s: {one.error}" for one in self.asked if one.error][
                :10
            ],
        }

    @property
    def running_share(self) -> float:
        """Of the seconds that replicas were held, starting and leaving ones included."""
        return sum(self.running_s.values()) / sum(self.replica_s.values())

    def share(self, target_s: float) -> float:
        """Of all first tokens, in time."""
        return float(np.mean([one.ttft_s <= target_s for one in self.asked]))


def run(args: argparse.Namespace) -> Report:
    """Choose on one day, replay another under both policies."""
    days = recorded_days(args.arrivals)
    imitated = _imitated(args, days)
    target = float(imitated["chosen"])
    requests = merged(
        [
            *(
                (s.model, arrivals(days[s.recorded][args.day], args.seconds, s.peak_per_s, args.seed))
                for s in STREAMS
            ),
            (RARE, few(args.seconds, VISITS, EACH, args.seed)),
        ]
    )
    factor = DAY_S / args.seconds
    served = document([_model(name) for name in (*(s.model for s in STREAMS), RARE)], ingresses=1)
    _scale(served, lambda name: _planned(args, factor, name))
    key = f"fs-bench-{os.urandom(16).hex()}"
    variables = {
        "FASTSERVE_API_KEY": key,
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    }
    with started(served, variables=variables) as pool:
        ours = _course(pool.base_url, key, requests, args.seconds)
        _scale(served, lambda _: _own(target, factor))
        pool.deploy(copy.deepcopy(served))
        pool.wait(lambda *_: None, 120.0)
        theirs = _course(pool.base_url, key, requests, args.seconds)
    return _report(args, imitated, ours, theirs, factor)


def _report(
    args: argparse.Namespace, imitated: dict[str, Any], ours: Course, theirs: Course, factor: float
) -> Report:
    target_s = args.target_ttft_s
    saved = 1.0 - sum(ours.replica_s.values()) / sum(theirs.replica_s.values())
    failed = [one for one in ours.asked if one.error]
    bars = (
        bar("replica-seconds saved", saved, ">=", 0.15),
        bar("share in target, beside Serve's", ours.share(target_s), ">=", theirs.share(target_s)),
        bar("failed requests with one model at zero", float(len(failed)), "<=", 0.0),
        bar("seconds without a replica of the rare model", args.seconds - ours.replica_s[RARE], ">=", 1.0),
        bar("Serve's replicas: share of their time that they run", theirs.running_share, ">=", RUNNING_SHARE),
    )
    busy = [stream.model for stream in STREAMS]
    results = {
        "compression": factor,
        "day": args.day,
        "target_ttft_s": target_s,
        "imitated_on_the_other_day": imitated,
        "ours": ours.summary(target_s),
        "serve": theirs.summary(target_s),
        "saved_without_the_rare_model": 1.0
        - sum(ours.replica_s[name] for name in busy) / sum(theirs.replica_s[name] for name in busy),
    }
    return Report("autoscale", bars, results)


def _imitated(args: argparse.Namespace, days: dict[str, Any]) -> dict[str, Any]:
    """Serve's target as an operator would choose it: the cheapest of those that keep GOOD of the requests in
    time on the other day, else the one that is in time most often."""
    factor = DAY_S / args.seconds
    engine = Engine(SLOTS, STEP_S, MEAN_TOKENS, args.start_s, leave_s=2.0)
    rows: dict[str, dict[str, float]] = {}
    for name in ("ours", *map(str, TARGETS)):
        replica_s = in_time = count = 0.0
        for stream in STREAMS:
            times = arrivals(
                days[stream.recorded][args.chosen_on], args.seconds, stream.peak_per_s, args.seed
            )
            scaler = (
                PlanScaler(_goal(args, factor), engine)
                if name == "ours"
                else ServeScaler(float(name), _look_s(factor), SERVE_UP_S / factor, SERVE_DOWN_S / factor)
            )
            found = imitate(times, scaler, engine, args.target_ttft_s, args.seconds)
            replica_s += found.replica_s
            in_time, count = in_time + found.share * found.requests, count + found.requests
        rows[name] = {"replica_s": replica_s, "share_in_target": in_time / count}
    good = [t for t in TARGETS if rows[str(t)]["share_in_target"] >= GOOD]
    best = max(TARGETS, key=lambda t: rows[str(t)]["share_in_target"])
    chosen = min(good, key=lambda t: rows[str(t)]["replica_s"]) if good else best
    return {"day": args.chosen_on, "chosen": chosen, "rows": rows}


def _goal(args: argparse.Namespace, factor: float) -> Goal:
    return Goal(args.target_ttft_s, GOOD, 1800.0 / factor, 5.0)


def _look_s(factor: float) -> float:
    return max(SERVE_LOOK_S / factor, 0.5)  # controller and replicas count no finer


def _model(name: str) -> Document:
    simulated = {
        "decode_step_s": STEP_S - 0.0005 * SLOTS / 2,
        "mean_output_tokens": MEAN_TOKENS,
        "max_sequences": SLOTS,
    }
    made = simulated_model(name, simulated)
    made["deployments"][0]["user_config"] = {"drain_s": 10.0, "weight": float(name == AUTO)}
    return made


def _scale(served: Document, config: Any) -> None:
    """Give every model an `autoscaling_config`."""
    for app in served["applications"]:
        if app["name"].startswith("model-"):
            entry = app["deployments"][0]
            entry.pop("num_replicas", None)
            entry["autoscaling_config"] = config(app["args"]["id"])


def _planned(args: argparse.Namespace, factor: float, name: str) -> Document:
    goal = _goal(args, factor)
    settings = {"target_ttft_s": goal.ttft_s, "share": goal.share, "idle_s": goal.idle_s}
    return {
        "min_replicas": int(name != RARE),
        "max_replicas": MOST,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "policy": {"policy_function": PLANNED_REPLICAS, "policy_kwargs": settings},
    }


def _own(target: float, factor: float) -> Document:
    """Serve's on ongoing requests, counted for it, with its defaults on the clock of the compressed day."""
    return {
        "min_replicas": 1,
        "max_replicas": MOST,
        "target_ongoing_requests": target,
        "look_back_period_s": _look_s(factor),
        "metrics_interval_s": 0.1,  # else replicas say only every 10 s how many requests they have
        "upscale_delay_s": SERVE_UP_S / factor,
        "downscale_delay_s": SERVE_DOWN_S / factor,
        "policy": {"policy_function": ONGOING_REQUESTS},
    }


def _course(url: str, key: str, requests: Sequence[tuple[float, str]], seconds: float) -> Course:
    """Replay the requests and watch the replicas."""
    names = sorted({model for _, model in requests})
    peak: list[tuple[str, F64]] = [
        (s.model, np.linspace(0.0, _WARM_UP_S, round(_WARM_UP_S * s.peak_per_s))) for s in STREAMS
    ]
    asyncio.run(_replayed(url, key, merged(peak)))  # so that replicas start once more than at the deploy
    time.sleep(_WARM_UP_S / 2)
    with _watched(names, seconds) as (all_s, running_s):
        asked = asyncio.run(_replayed(url, key, requests))
    print({name: round(one, 1) for name, one in all_s.items()}, len(asked), "requests", flush=True)
    return Course(all_s, running_s, tuple(asked))


@contextmanager
def _watched(names: Sequence[str], seconds: float) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """Replica-seconds by model, in all and running, for so long a day."""
    from ray import serve

    all_s, running_s = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    stop, began_s = threading.Event(), time.monotonic()

    def watch() -> None:
        before_s = began_s
        while before_s < began_s + seconds and not stop.is_set():
            applications = serve.status().applications
            now_s = min(time.monotonic(), began_s + seconds)
            for name in names:
                states = applications[f"model-{name}"].deployments["Model"].replica_states
                counts = {str(getattr(state, "value", state)): count for state, count in states.items()}
                all_s[name] += (now_s - before_s) * sum(counts.get(state, 0) for state in _STATES)
                running_s[name] += (now_s - before_s) * counts.get("RUNNING", 0)
            before_s = now_s
            stop.wait(_SAMPLE_S)

    thread = threading.Thread(target=watch, name="replica-seconds")
    thread.start()
    try:
        yield all_s, running_s
    finally:
        thread.join(seconds)
        stop.set()


async def _replayed(url: str, key: str, requests: Sequence[tuple[float, str]]) -> list[Asked]:
    timeout = aiohttp.ClientTimeout(total=120.0)
    headers = {"authorization": f"Bearer {key}"}
    asked: list[Asked] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(
            url, headers=headers, timeout=timeout, trust_env=False, connector=connector
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        began_s = time.monotonic()
        for at_s, model in requests:
            await asyncio.sleep(max(began_s + at_s - time.monotonic(), 0.0))
            group.create_task(_ask(session, model, at_s, asked))
    return asked


async def _ask(session: aiohttp.ClientSession, model: str, at_s: float, asked: list[Asked]) -> None:
    messages = [{"role": "user", "content": f"Hello at {at_s:.3f}"}]
    body = {"model": "auto" if model == AUTO else model, "messages": messages, "stream": True}
    began_s, first_s, error, last = time.monotonic(), float("inf"), "", b""
    try:
        async with session.post("/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                error = f"{answer.status} {(await answer.text())[:200]}"
            async for event in sse.events(answer.content.iter_any()):
                last = event.data or b""
                if last != sse.DONE and "error" in json.loads(last):
                    error = last.decode()
                first_s = min(first_s, time.monotonic() - began_s)
    except (aiohttp.ClientError, TimeoutError, OSError) as failure:
        error = repr(failure)
    if not error and last != sse.DONE:
        error = "the stream has no end mark"
    asked.append(Asked(model, at_s, float("inf") if error else first_s, error))
