"""Many streams at once through one, two and four ingress replicas: CPU, memory and time a token.

Simulated engines give each stream 20 tokens/s, one token an event. The same streams are read from the
engines directly and through FastServe; before one ingress replica also through a bare Ray Serve pass-through
and LiteLLM. Added time is the difference of the quantiles of the time between tokens to those read directly.
On a machine of few cores readers, engines and proxies share them: the CPU of each is told, and a reading of
a machine that was full says so, and its times are not held against a bar.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from deployments.table.connect import find_table
from scripts.benchmarks.report import Bar, Report, bar, interval
from scripts.benchmarks.serving.environments import installed
from scripts.benchmarks.serving.gateway import (
    LITELLM,
    LITELLM_QUIET,
    MASTER_KEY,
    free_port,
    litellm_config,
    process,
)
from scripts.benchmarks.serving.private_pool import Document, document, simulated_model, started
from scripts.benchmarks.serving.processes import Groups, descendants
from scripts.benchmarks.streams.readings import Case, Row, cases
from scripts.benchmarks.streams.viewer import Way, close, open_streams, window
from serve_app.console.local_pool import LocalPool
from serve_app.console.text_table import print_table

STEP_S: Final = 0.05  # of the engines: 20 tokens/s a stream
ENGINES: Final = 4  # replicas of the model, whose steps do not coincide
ENGINE: Final = {
    "decode_step_s": STEP_S,
    "decode_step_per_sequence_s": 0.0,
    "max_sequences": 512,
    "kv_tokens": 1 << 26,
    "prefill_tokens_per_s": 1e9,
}
MODEL: Final = "mock"
PROMPT: Final = "Tell me a story that does not end."
LONG_BYTES: Final = 64_000
ENDLESS_TOKENS: Final = 20_000  # 1,000 s: more than the slowest machine needs to open all streams
MARKS: Final = {
    "ingress": ("ServeReplica:fastserve:Ingress",),
    "haproxy": ("haproxy",),
    "engines": (f"ServeReplica:model-{MODEL}",),
    "bare": ("ServeReplica:bare",),
    "table": ("ray::TableActor",),
}
_UP_S: Final = 120.0  # within which a peer gives its first stream
_QUIET_S: Final = 1.5  # after streams have ended
FULL: Final = 0.95  # share of the machine's cores: what is measured beyond it is the machine
LEAST_CORE: Final = 0.05  # of a core; less is mostly noise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--streams", default="16,128,512,1024", metavar="N,N")
    parser.add_argument("--ingresses", default="1,2,4", metavar="N,N")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each reading")
    parser.add_argument("--ramp-s", type=float, default=3.0, help="over which the streams begin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=int, default=128, help="most streams that go through peers too")
    parser.add_argument("--litellm-venv", type=Path, default=Path(".venv-litellm"))


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _bare(upstream: str, secret: str) -> Document:
    return {
        "name": "bare",
        "route_prefix": "/bare",
        "import_path": "scripts.benchmarks.serving.bare:build",
        "args": {"upstream": upstream, "key": secret},
        "deployments": [{"name": "Bare", "ray_actor_options": {"num_cpus": 0.05}}],
    }


async def _replicas() -> tuple[list[str], str]:
    """The engines' own addresses, and the secret that opens them."""
    table = find_table()
    snapshot = await table.snapshot("", 0, 5.0)
    return [replica.url for replica in snapshot.models[MODEL].replicas], await table.secret()


class _Readings:
    """Takes readings of one pool."""

    def __init__(self, args: argparse.Namespace, ingresses: int, groups: Groups) -> None:
        self._args, self._ingresses, self._groups = args, ingresses, groups

    async def read(self, way: Way, streams: int, prompt: str, label: str) -> Row:
        """Begin the streams, let them run, read a window of them, leave."""
        args = self._args
        idle = self._groups.usage()
        viewers = await open_streams(way, streams, prompt, ENDLESS_TOKENS, args.ramp_s)
        await asyncio.sleep(0.5)
        before, from_s = self._groups.usage(), time.perf_counter()
        await asyncio.sleep(args.seconds)
        after, to_s = self._groups.usage(), time.perf_counter()
        early = await close(viewers)
        await asyncio.sleep(_QUIET_S)
        seen = window(viewers, from_s, to_s)
        spent_s = {name: after[name].cpu_s - before[name].cpu_s for name in after}
        grown = sum(
            after[name].memory_bytes - idle[name].memory_bytes for name in way.group if name != "haproxy"
        )
        cores = os.cpu_count() or 1
        return Row(
            ingresses=self._ingresses,
            way=way.name,
            streams=streams,
            prompt=label,
            tokens_per_s=seen.tokens_per_s,
            p50_ms=seen.quantile_ms(0.5),
            p99_ms=seen.quantile_ms(0.99),
            cpu_us={name: 1e6 * cpu_s / max(seen.tokens, 1) for name, cpu_s in spent_s.items()},
            kb_a_stream=max(grown, 0) / streams / 1e3,
            busy=sum(spent_s.values()) / (to_s - from_s) / cores,
            ended_early=early,
        )


def _pool_rows(args: argparse.Namespace, ingresses: int, progress: "tqdm[Any]") -> list[Row]:
    """All readings before `ingresses` replicas of the ingress; peers beside one."""
    key = f"fs-bench-{secrets.token_hex(16)}"
    model = simulated_model(MODEL, ENGINE, ENGINES)
    model["args"]["context_tokens"] = 65_536
    model["deployments"][0]["user_config"] = {"max_ongoing_requests": 1024}
    whole = document([model], ingresses)
    whole["applications"][0]["args"]["max_in_flight"] = 4096
    variables = {
        "FASTSERVE_API_KEY": key,
        "FASTSERVE_CONNECTIONS": "8000",
        "FASTSERVE_ADDRESS_CONNECTIONS": "4000",
    }
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastserve-streams-"))
        pool = stack.enter_context(started(whole, variables=variables))
        urls, secret = asyncio.run(_replicas())
        if len(urls) != ENGINES:
            raise RuntimeError(f"{len(urls)} replicas of '{MODEL}' run, {ENGINES} were asked for.")
        ways = [
            Way("direct", urls, secret, MODEL, ()),
            Way("fastserve", [pool.base_url], key, MODEL, ("ingress", "haproxy")),
        ]
        pids = {"reader": [os.getpid()]}
        if ingresses == 1 and args.peers:
            ways += _peers(args, pool, whole, (urls[0], secret), Path(folder), stack, pids)
        groups = Groups(MARKS, pids)
        return asyncio.run(_all(_Readings(args, ingresses, groups), ways, args, progress))


def _peers(
    args: argparse.Namespace,
    pool: LocalPool,
    whole: Document,
    engine: tuple[str, str],
    folder: Path,
    stack: contextlib.ExitStack,
    pids: dict[str, list[int]],
) -> list[Way]:
    """Other gateways before one of the engines, which is told by its URL and the secret that opens it."""
    pool.deploy(whole | {"applications": [*whole["applications"], _bare(*engine)]})
    pool.wait_with_bar()
    port, command = free_port(), installed(args.litellm_venv, LITELLM, "litellm")
    options = ("--config", litellm_config(folder, engine[0], MODEL, engine[1]), "--port", str(port))
    litellm = stack.enter_context(
        process(command, *options, "--host", "127.0.0.1", environment=LITELLM_QUIET)
    )
    ways = [
        Way("bare ray serve", [f"{pool.base_url}/bare"], "none", MODEL, ("bare", "haproxy")),
        Way("litellm", [f"http://127.0.0.1:{port}"], MASTER_KEY, MODEL, ("litellm",)),
    ]
    for way in ways:
        asyncio.run(_await_up(way))
    pids["litellm"] = descendants(litellm.pid)
    return ways


async def _await_up(way: Way) -> None:
    """Wait for the first stream. Raises RuntimeError at the timeout."""
    deadline_s = time.monotonic() + _UP_S
    while True:
        try:
            await close(await open_streams(way, 1, PROMPT, 8, 0.0))
            return
        except (RuntimeError, OSError):
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.5)


async def _all(
    readings: _Readings, ways: Sequence[Way], args: argparse.Namespace, progress: "tqdm[Any]"
) -> list[Row]:
    long = (PROMPT + " " + "word " * LONG_BYTES)[:LONG_BYTES]
    plan = [(count, PROMPT, "short") for count in _numbers(args.streams)] + [(16, long, "64 kB")]
    rows = []
    for way in ways:
        await readings.read(way, 4, PROMPT, "warm-up")
    for _ in range(args.rounds):
        for count, prompt, label in plan:
            for way in ways[:2] if count > args.peers else ways:
                progress.set_description(f"{way.name}, {count} streams, {label}")
                rows.append(await readings.read(way, count, prompt, label))
                progress.update()
    return rows


def run(args: argparse.Namespace) -> Report:
    """Every number of ingress replicas in a pool of its own."""
    with tqdm(unit="reading") as progress:
        rows = [row for count in _numbers(args.ingresses) for row in _pool_rows(args, count, progress)]
    return _report(rows)


def _mean(rows: Sequence[Row], figure: Callable[[Row], float]) -> tuple[float, float]:
    return interval([figure(row) for row in rows])


def _report(rows: list[Row]) -> Report:
    found = cases(rows)
    table = [
        (*case.name, case.tokens_per_s, case.added_p50_ms, case.added_p99_ms, case.gateway_us,
         case.cpu_us("haproxy"), case.cpu_us("engines"), case.cpu_us("reader"), case.kb_a_stream,
         f"{case.busy:.2f}{' full' if case.busy > FULL else ''}")
        for case in found
    ]  # fmt: skip
    print_table(
        ("ingress", "way", "streams", "prompt", "tokens/s", "added p50 ms", "added p99 ms", "gateway us",
         "haproxy us", "engines us", "reader us", "kB a stream", "cores"),
        table,
        title="CPU in microseconds a token",
    )  # fmt: skip
    bars = [one for case in found if case.name[1::2] == ("fastserve", "short") for one in _bars(case)]
    bars.append(bar("streams.ended_early", sum(row.ended_early for row in rows), "<=", 0))
    return Report("streams", tuple(bars), {"rows": [asdict(row) for row in rows]})


def _bars(case: Case) -> list[Bar]:
    """Of FastServe: tokens a CPU second, memory, and added time where the machine had room."""
    ingresses, _, streams, _ = case.name
    name, rows = f"streams.{ingresses}x{streams}", case.rows
    core = _mean(rows, lambda row: row.cpu_us["ingress"] * row.tokens_per_s * 1e-6)[0]
    if core < LEAST_CORE:
        return []
    per_cpu_s, spread = _mean(rows, lambda row: 1e6 / row.cpu_us["ingress"])
    kb, kb_spread = _mean(rows, lambda row: row.kb_a_stream)
    bars = [bar(f"{name}.tokens_per_cpu_s", per_cpu_s, ">=", 20_000, spread)]
    bars.append(bar(f"{name}.kb_a_stream", kb, "<=", 40, kb_spread))
    if core <= 0.7 and case.busy <= FULL:
        bars.append(bar(f"{name}.added_p99_ms", case.added_p99_ms, "<=", 20))
    return bars
