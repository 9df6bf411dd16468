"""A pool under load while its processes are killed and stopped, one every ten seconds.

A private pool of simulated models with two ingress replicas, evaluator and learner. Plain requests and
streams arrive through HAProxy in turn at a fixed rate; every part is hit by SIGKILL and by SIGSTOP (two
seconds) in a random order. What the clients saw is then compared with the log of outcomes and with `fastserve
usage`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from tqdm import tqdm

from deployments.table.connect import find_table
from scripts.benchmarks.faults.verdict import Books, Hit, bars, outside, summary
from scripts.benchmarks.faults.victims import KINDS, Memory, Victims
from scripts.benchmarks.report import Report
from scripts.benchmarks.serving.private_pool import document, simulated_model, started, usage_rows
from scripts.benchmarks.serving.steady_load import SteadyLoad
from serve_app.access.spending import read
from serve_app.console.text_table import print_table

PERIOD_S: Final = 10.0
STOPPED_S: Final = 2.0
WARM_S: Final = 15.0
SETTLED_S: Final = 30.0  # until what a killed ingress left open has been ended for it
SIMULATED: Final = {"decode_step_s": 0.02, "decode_step_per_sequence_s": 0.0, "mean_output_tokens": 24}
MODELS: Final = ("alpha", "beta")
BODY: Final = {"max_tokens": 32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (3; 30 before a release)")
    parser.add_argument("--rate", type=float, default=22.0, help="requests a second (22)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of faults")
    parser.add_argument("--only", metavar="A,B", help=f"only these parts, of {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True)
class Running:
    """The pool, as the load and the faults need it."""

    url: str
    key: str
    victims: Victims


@contextmanager
def _pool() -> Iterator[Running]:
    whole = document([simulated_model(model, SIMULATED, replicas=2) for model in MODELS], companions=True)
    key = f"fs-chaos-{os.urandom(16).hex()}"
    with started(whole, variables={"FASTSERVE_API_KEY": key}) as pool:
        yield Running(pool.base_url, key, Victims())


def plan(kinds: Sequence[str], count: int, draws: random.Random) -> list[tuple[str, signal.Signals]]:
    """Which part is hit how: every one killed and stopped before any comes again, in a random order."""
    found: list[tuple[str, signal.Signals]] = []
    while len(found) < count:
        for how in (signal.SIGKILL, signal.SIGSTOP):
            found += [(kind, how) for kind in draws.sample(list(kinds), len(kinds))]
    return found[:count]


@dataclass(slots=True)
class _Fault:
    """One fault that was done; `back_s` once what it hit is back."""

    kind: str
    how: signal.Signals
    pid: int
    count: int  # processes of its kind before
    at_s: float
    back_s: float | None = None

    def look(self, victims: Victims, load: SteadyLoad) -> None:
        """Note when a process of its kind is there again; for HAProxy, when a later request was answered."""
        if self.back_s is not None:
            return
        if self.kind == "haproxy":
            ends = [
                one.began_s + one.took_s for one in load.asked if one.began_s > self.at_s and not one.error
            ]
            self.back_s = min(ends) - self.at_s if ends else None
        elif self.how is signal.SIGSTOP or self._replaced(victims.pids(self.kind)):
            self.back_s = time.monotonic() - self.at_s

    def _replaced(self, now: list[int]) -> bool:
        return self.pid not in now and len(now) >= self.count


def _do(pool: Running, kind: str, how: signal.Signals, draws: random.Random) -> _Fault | None:
    """Kill one process of a kind, or stop it for a while; None where none runs."""
    before = pool.victims.pids(kind)
    if not before:
        return None
    fault = _Fault(kind, how, draws.choice(before), len(before), time.monotonic())
    os.kill(fault.pid, how)
    if how is signal.SIGSTOP:
        time.sleep(STOPPED_S)
        os.kill(fault.pid, signal.SIGCONT)
    return fault


def _faults(pool: Running, load: SteadyLoad, memory: Memory, args: argparse.Namespace) -> list[Hit]:
    draws = random.Random(args.seed)
    kinds = args.only.split(",") if args.only else KINDS
    steps, done = plan(kinds, max(1, round(args.minutes * 60.0 / PERIOD_S)), draws), list[_Fault]()
    for kind, how in tqdm(steps, desc="faults", unit="fault", file=sys.stderr):
        until_s = time.monotonic() + PERIOD_S
        fault = _do(pool, kind, how, draws)
        done += [fault] if fault else []
        memory.sample()
        while time.monotonic() < until_s:
            time.sleep(0.2)
            for one in done:
                one.look(pool.victims, load)
    return [Hit(one.kind, one.how.name, one.at_s, one.back_s) for one in done]


async def _books(began_s: float) -> Books:
    """What the pool itself counted: the log by decision, and the sum of `fastserve usage`."""
    log = [pair async for pair in read(find_table(), began_s)]
    ended = {decision.decision_id: record for decision, record in log if record is not None}
    return Books(tuple(decision.decision_id for decision, _ in log), frozenset(ended))


def run(args: argparse.Namespace) -> Report:
    """Load, faults, then the comparison."""
    with _pool() as pool:
        began_s, memory = time.time() - 1.0, Memory()
        with SteadyLoad(pool.url, pool.key, ("auto", *MODELS), args.rate, BODY) as load:
            time.sleep(WARM_S)
            memory.sample()
            hits = _faults(pool, load, memory, args)
        time.sleep(SETTLED_S)
        memory.sample()
        books = asyncio.run(_books(began_s))
        counted = sum(int(row["requests"]) for row in usage_rows())
    failed = [asdict(one) for one in outside(load.asked, hits) if one.error and one.cut in ("", "silent")]
    results: dict[str, Any] = {
        **summary(load.asked, hits, books, counted),
        "memory_growth_mib": memory.growth_mib(),
        "failed": failed[:40],
    }
    rows = [list(row.values()) for row in results["recoveries"]]
    print_table(tuple(results["recoveries"][0]), rows, title="recoveries")
    print(json.dumps({name: results[name] for name in ("requests", "answers", "cut")}))
    return Report("chaos", bars(load.asked, hits, books, counted, memory.growth_mib()), results)
