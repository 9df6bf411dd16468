"""A second try beside one that is late: a pool whose replicas pause at random, hedging on and off in turns.

Each of four replicas of a simulated model is stopped for 0.5 to 1.5 s at a time (SIGSTOP), for 2 % of the
time in all; streams arrive by chance at a mean rate. Both blocks of a pair have the same pauses and arrivals.
Then two replicas of another model get 20 plain requests a second, and one of them hangs for eight seconds.
Ejection is always on.
"""

import argparse
import asyncio
import copy
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from deployments.table.connect import find_table
from policies.arrays import F64
from policies.outcome import Outcome
from scripts.benchmarks.faults.late_replicas import Clients, Pause, Seen, block, pauses, stop
from scripts.benchmarks.faults.victims import Victims
from scripts.benchmarks.report import Bar, Report, bar
from scripts.benchmarks.serving.private_pool import document, simulated_model, started
from serve_app.access.spending import read
from serve_app.console.local_pool import LocalPool
from serve_app.console.text_table import print_table

SIMULATED: Final = {"decode_step_s": 0.02, "decode_step_per_sequence_s": 0.0, "mean_output_tokens": 24}
BODY: Final = {"max_tokens": 32}
REPLICAS: Final = {"four": 4, "two": 2}
SHARE: Final = 0.02  # of the time for which each of the four stands still
PLAIN_PER_S: Final = 20.0
HUNG_S: Final = 8.0
SLOW_S: Final = 2.0
WARM_S: Final = 25.0  # until it is known when an answer is late
BEFORE_S: Final = 3.0  # of a block's load before one hangs, and after it goes on
SETTLED_S: Final = 3.0  # between blocks: settings arrive, ejections end
DRAWS: Final = 400  # of the bootstrap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--pairs", type=int, default=4, help="blocks with and without, by turns (4)")
    parser.add_argument("--seconds", type=float, default=28.0, help="of each block (28)")
    parser.add_argument("--rate", type=float, default=16.0, help="streams a second (16)")


@dataclass(slots=True)
class Found:
    """What was seen with hedging, or without it."""

    streams: list[Seen] = field(default_factory=list)
    during: list[Seen] = field(default_factory=list)  # plain answers under way while one replica hung
    outcomes: list[Outcome] = field(default_factory=list)  # of all of them, as the pool logged them


@dataclass(frozen=True, slots=True)
class Pool:
    """The pool, and its settings that change live."""

    local: LocalPool
    whole: dict[str, Any]
    key: str

    def hedging(self, on: bool) -> None:
        """Switch it, live."""
        ingress = self.whole["applications"][0]["deployments"][0]
        ingress["user_config"]["retries"] = {"hedging": on}
        self.local.deploy(copy.deepcopy(self.whole))
        self.local.wait(lambda *_: None)
        time.sleep(SETTLED_S)

    def clients(self, model: str, *, stream: bool) -> Clients:
        """Who asks a model."""
        return Clients(self.local.base_url, self.key, model, {**BODY, "stream": stream})


@contextmanager
def _pool() -> Iterator[Pool]:
    whole = document([simulated_model(name, SIMULATED, count) for name, count in REPLICAS.items()])
    key = f"fs-hedge-{os.urandom(16).hex()}"
    with started(whole, variables={"FASTSERVE_API_KEY": key}) as local:
        yield Pool(local, whole, key)


async def _streams(pool: Pool, args: argparse.Namespace, pair: int) -> list[Seen]:
    """One block of streams to replicas that pause."""
    planned = block(pauses(REPLICAS["four"], args.pairs * args.seconds, SHARE, seed=0), pair, args.seconds)
    clients, pids = pool.clients("four", stream=True), Victims().replicas("four")
    seen, _ = await asyncio.gather(clients.load(args.rate, args.seconds, pair), stop(pids, planned))
    return seen


async def _hung(pool: Pool, replica: int) -> list[Seen]:
    """The plain answers that were under way while one of two replicas hung."""
    clients, pids = pool.clients("two", stream=False), Victims().replicas("two")
    planned, seconds = Pause(BEFORE_S, replica, HUNG_S), 2 * BEFORE_S + HUNG_S
    seen, _ = await asyncio.gather(clients.load(PLAIN_PER_S, seconds, replica), stop(pids, [planned]))
    return during(seen, planned)


def during(seen: Sequence[Seen], pause: Pause) -> list[Seen]:
    """The requests that began before a pause's end and were under way after its beginning."""
    end_s = pause.at_s + pause.length_s
    return [one for one in seen if one.began_s < end_s and one.began_s + one.took_s >= pause.at_s]


async def _logged(since_s: float) -> list[Outcome]:
    """What the pool logged of requests since then."""
    return [end.outcome async for _, end in read(find_table(), since_s) if end is not None]


async def _warm(pool: Pool, seconds: float, args: argparse.Namespace) -> None:
    streams, plain = pool.clients("four", stream=True), pool.clients("two", stream=False)
    await asyncio.gather(streams.load(args.rate, seconds, 0), plain.load(PLAIN_PER_S, seconds, 0))


def _measured(pool: Pool, args: argparse.Namespace) -> dict[bool, Found]:
    """All blocks; which of a pair comes first changes from pair to pair."""
    found = {True: Found(), False: Found()}
    blocks = [(pair, on) for pair in range(args.pairs) for on in ((True, False), (False, True))[pair % 2]]
    with tqdm(total=len(blocks) + 2, desc="blocks", unit="block", file=sys.stderr) as bars:
        for pair, on in blocks:
            pool.hedging(on)
            began_s = time.time()
            found[on].streams += asyncio.run(_streams(pool, args, pair))
            time.sleep(SETTLED_S)  # the last outcomes reach the log
            found[on].outcomes += asyncio.run(_logged(began_s))
            bars.update()
        for on in (True, False):
            pool.hedging(on)
            began_s = time.time()
            for replica in range(REPLICAS["two"]):
                found[on].during += asyncio.run(_hung(pool, replica))
            time.sleep(SETTLED_S)
            found[on].outcomes += asyncio.run(_logged(began_s))
            bars.update()
    return found


def _p99(seconds: F64) -> float:
    return float(np.quantile(seconds, 0.99))


def _ratio(found: dict[bool, Found]) -> tuple[float, float]:
    """p99 of the time to the first token with hedging over that without, and its half-width (bootstrap)."""
    with_it, without = (np.array([one.first_s for one in found[on].streams]) for on in (True, False))
    draws, ratios = np.random.default_rng(0), list[float]()
    for _ in range(DRAWS):
        drawn = (draws.choice(one, one.size) for one in (with_it, without))
        ratios.append(_p99(next(drawn)) / _p99(next(drawn)))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return _p99(with_it) / _p99(without), float(high - low) / 2


def slow(seen: Sequence[Seen]) -> float:
    """The share of requests that took too long, or were not answered."""
    return sum(one.took_s > SLOW_S or one.status != 200 for one in seen) / max(len(seen), 1)


def extra_work(outcomes: Sequence[Outcome]) -> float:
    """Tokens of tries that were outrun over those of the answers."""
    answered = sum(one.prompt_tokens + one.output_tokens for one in outcomes)
    return sum(one.hedged_tokens for one in outcomes) / max(answered, 1)


def bars(found: dict[bool, Found]) -> tuple[Bar, ...]:
    """The promises."""
    ratio, spread = _ratio(found)
    unanswered = sum(one.status != 200 for side in found.values() for one in (*side.streams, *side.during))
    return (
        bar("p99 TTFT with hedging over without, four replicas that pause", ratio, "<=", 0.5, spread),
        bar("extra work, share of the tokens", extra_work(found[True].outcomes), "<=", 0.05),
        bar("one of two hangs: answers later than 2 s, share", slow(found[True].during), "<=", 0.02),
        bar("requests without an answer", unanswered, "<=", 0),
    )


def _summary(side: Found) -> dict[str, Any]:
    firsts = [one.first_s for one in side.streams]
    return {
        "streams": len(firsts),
        **{f"ttft_p{rank}_ms": 1e3 * float(np.quantile(firsts, rank / 100)) for rank in (50, 90, 95, 99)},
        "ttft_most_ms": 1e3 * max(firsts),
        "second tries, share of the requests": sum(one.hedges for one in side.outcomes) / len(side.outcomes),
        "tries after a failure": sum(one.attempts - 1 for one in side.outcomes),
        "extra work, share of the tokens": extra_work(side.outcomes),
        "under way while one of two hung": len(side.during),
        "of these later than 2 s, share": slow(side.during),
        "of these the slowest, s": max(one.took_s for one in side.during),
    }


def run(args: argparse.Namespace) -> Report:
    """Warm up, then all blocks on one pool."""
    with _pool() as pool:
        pool.hedging(True)
        asyncio.run(_warm(pool, WARM_S, args))
        found = _measured(pool, args)
    results = {"with" if on else "without": _summary(side) for on, side in found.items()}
    rows = [(name, *(side[name] for side in results.values())) for name in results["with"]]
    print_table(("measured", *results), rows, title="hedging")
    return Report("hedge", bars(found), results)
