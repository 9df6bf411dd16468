"""64 of the largest bodies at once: how much more memory the ingress holds, and what callers are told.

A pool of one simulated model with one ingress replica, and four keys that send sixteen bodies each, all of
one kind and then all kinds together. The answers take seconds, so that what was let in is held meanwhile.
Each run has a pool of its own; the worst of the runs is held against the bar, with the spread of all.
"""

import argparse
import contextlib
import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import psutil

from scripts.benchmarks.faults.victims import Victims
from scripts.benchmarks.report import Bar, Report, bar, interval
from scripts.benchmarks.serving.private_pool import document, simulated_model, started

AT_ONCE: Final = 64
KEYS: Final = 4
MOST_MIB: Final = 512.0
SAMPLE_S: Final = 0.02
REST_S: Final = 3.0
MODEL: Final = "large"
CHAT: Final = "/v1/chat/completions"
SIMULATED: Final = {
    "decode_step_s": 0.25,
    "decode_step_per_sequence_s": 0.0,
    "prefill_tokens_per_s": 1e9,
    "max_sequences": 256,
    "kv_tokens": 2_000_000_000,
}
ANSWER: Final = {"model": MODEL, "max_tokens": 16, "ignore_eos": True}
CHARS: Final = 7_900_000  # below `caps.text_chars`
MIB: Final = 2**20


def _hello(**fields: Any) -> dict[str, Any]:
    return {**ANSWER, "messages": [{"role": "user", "content": "Hello"}], **fields}


def _text(text: str) -> dict[str, Any]:
    return {**ANSWER, "messages": [{"role": "user", "content": text}]}


def _tool(number: int) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "description": "x" * 245_000}}}
    return {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}


def _images() -> dict[str, Any]:
    url = {"url": "data:image/png;base64," + "A" * (2 * MIB - 4096)}
    parts = [{"type": "image_url", "image_url": url} for _ in range(16)]
    return {**ANSWER, "messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}, *parts]}]}


def _schema() -> dict[str, Any]:
    form = {"name": "s", "schema": {"type": "object", "description": "x" * 260_000}}
    return _hello(response_format={"type": "json_schema", "json_schema": form})


KINDS: Final[dict[str, tuple[str, Callable[[], dict[str, Any]]]]] = {
    "one text": (CHAT, lambda: _text("word " * (CHARS // 5))),
    "a text with a wide letter": (CHAT, lambda: _text("word " * (CHARS // 5) + "\N{GRINNING FACE}")),
    "messages": (
        CHAT,
        lambda: {**ANSWER, "messages": [{"role": "user", "content": "w " * 960} for _ in range(4_096)]},
    ),
    "prompts": ("/v1/completions", lambda: {**ANSWER, "prompt": ["word " * (CHARS // 640)] * 128}),
    "token ids": ("/v1/completions", lambda: {**ANSWER, "prompt": [[100_000] * 2_000] * 128}),
    "embedding inputs": (
        "/v1/embeddings",
        lambda: {"model": MODEL, "input": ["word " * (CHARS // 10_240)] * 2_048},
    ),
    "pictures": (CHAT, _images),
    "tools": (CHAT, lambda: _hello(tools=[_tool(number) for number in range(128)])),
    "schema": (CHAT, _schema),
    "nested arrays": (CHAT, lambda: _hello(metadata={"a": [[[[0]]] for _ in range(8_000)]})),
    "members": (CHAT, lambda: _hello(metadata={str(number): number + 0.5 for number in range(48_000)})),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--runs", type=int, default=1, help="pools, one after the other")
    parser.add_argument("--only", metavar="A,B", help=f"only these kinds, of {', '.join(KINDS)}, all")


@dataclass(frozen=True, slots=True)
class Said:
    """What one caller was told; status 0: the connection broke before an answer."""

    status: int
    retry_after: str
    code: str


class Memory:
    """Follows the resident memory of the ingress."""

    def __init__(self) -> None:
        [pid] = Victims().pids("ingress")
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self.most = 0.0

    def mib(self) -> float:
        """What it holds now."""
        return float(self._process.memory_info().rss / MIB)

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """`most` is the most that it held in this block."""
        self.most = self.mib()
        self._stop.clear()
        thread = threading.Thread(target=self._follow)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.most = max(self.most, self.mib())


@dataclass(frozen=True, slots=True)
class Pool:
    """The endpoint and the keys for it."""

    port: int
    keys: list[str]

    def ask(self, number: int, path: str, raw: bytes) -> Said:
        """One body, to the end of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180.0)
        key = self.keys[number % len(self.keys)]
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer came before the end
                connection.request("POST", path, raw, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            return Said(0, "", "broken")
        finally:
            connection.close()
        code = "" if answer.status == 200 else str(json.loads(data)["error"]["code"])
        return Said(answer.status, answer.headers.get("retry-after", ""), code)


def _sent(pool: Pool, memory: Memory, bodies: list[tuple[str, bytes]]) -> dict[str, Any]:
    """All bodies at once, in turn from the list."""
    before = memory.mib()
    with memory.followed(), ThreadPoolExecutor(AT_ONCE) as threads:
        asked = [threads.submit(pool.ask, i, *bodies[i % len(bodies)]) for i in range(AT_ONCE)]
        said = [one.result() for one in asked]
    time.sleep(REST_S)
    return {
        "body_mib": max(len(raw) for _, raw in bodies) / MIB,
        "growth_mib": memory.most - before,
        "left_mib": memory.mib() - before,
        "statuses": {str(status): count for status, count in Counter(one.status for one in said).items()},
        "codes": dict(Counter(one.code for one in said if one.code)),
        "without_retry_after": sum(one.status == 503 and not one.retry_after for one in said),
    }


def _bars(name: str, runs: list[dict[str, Any]]) -> list[Bar]:
    """What one kind did in all runs."""
    answered = [found["statuses"].get("200", 0) for found in runs]
    others = [
        AT_ONCE - count - found["statuses"].get("503", 0) for found, count in zip(runs, answered, strict=True)
    ]
    without = [found["without_retry_after"] for found in runs]
    return [
        _worst(f"{name}: growth of the ingress, MiB", [found["growth_mib"] for found in runs], MOST_MIB),
        bar(f"{name}: answered", min(answered), ">=", 1, interval(answered)[1]),
        _worst(f"{name}: neither answered nor 503", others, 0.0),
        _worst(f"{name}: 503 without Retry-After", without, 0.0),
    ]


def _worst(name: str, values: Sequence[float], limit: float) -> Bar:
    return bar(name, max(values), "<=", limit, interval(values)[1])


@contextlib.contextmanager
def _pool() -> Iterator[Pool]:
    model = simulated_model(MODEL, SIMULATED)
    model["args"]["context_tokens"] = 100_000_000
    capabilities = ["chat", "tools", "json", "vision", "embeddings"]
    live = {"capabilities": capabilities, "max_ongoing_requests": 256}
    model["deployments"] = [{"name": "Model", "max_ongoing_requests": 256, "user_config": live}]
    whole = document([model], ingresses=1)
    keys = [f"fs-bodies-{secrets.token_hex(16)}" for _ in range(KEYS)]
    with started(whole, [{"name": f"key-{number}", "key": key} for number, key in enumerate(keys)]):
        pool = Pool(whole["http_options"]["port"], keys)
        hello = json.dumps(_hello(max_tokens=1)).encode()
        while pool.ask(0, CHAT, hello).status != 200:
            time.sleep(0.2)
        yield pool


def run(args: argparse.Namespace) -> Report:
    """Every kind by itself, then all, as often as is asked."""
    wanted = args.only.split(",") if args.only else [*KINDS, "all"]
    runs = [_apart(wanted) for _ in range(args.runs)]
    bars = [one for name in wanted for one in _bars(name, [found[name] for found in runs])]
    growths = [found["most_mib"] - found["before_mib"] for found in runs]
    bars.append(_worst("all kinds, one after the other: growth, MiB", growths, MOST_MIB))
    return Report("bodies", tuple(bars), {"runs": runs})


def _apart(wanted: list[str]) -> dict[str, Any]:
    """A run in a process of its own: Serve reads where HAProxy is once in the life of a process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_one_run, wanted).result()


def _one_run(wanted: list[str]) -> dict[str, Any]:
    bodies = {name: (path, json.dumps(build()).encode()) for name, (path, build) in KINDS.items()}
    results: dict[str, Any] = {}
    with _pool() as pool:
        memory = Memory()
        results["before_mib"] = memory.mib()
        for name in wanted:
            chosen = list(bodies.values()) if name == "all" else [bodies[name]]
            results[name] = found = _sent(pool, memory, chosen)
            print(name, json.dumps(found))
            results["most_mib"] = max(memory.most, results.get("most_mib", 0.0))
        results["after_mib"] = memory.mib()
    return results
