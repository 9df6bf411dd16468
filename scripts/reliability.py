"""Writes docs/reliability.md, promise against measured: `python -m scripts.reliability [--check]`.

A promise is held by bars of a stored result in benchmarks/, by a test, or by both.
"""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.pages import write_or_check

PAGE: Final = Path("docs/reliability.md")
FOLDER: Final = Path("benchmarks")
_FOLDED: Final = 3  # bars of one kind
_HEAD: Final = """# Reliability: promise against measured

What is promised, the number that was measured for it, and the command that measures it again. Written by
`python -m scripts.reliability` from the results in `benchmarks/`, each with its machine there. A promise
with a test and no number is held by the test at every change.
"""


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: `bench` a stored result, `bars` a pattern for names of its bars, `test` a file of tests."""

    text: str
    bench: str = ""
    bars: str = ".*"
    test: str = ""


SECTIONS: Final[dict[str, tuple[Promise, ...]]] = {
    "Privacy": (
        Promise("Words of a prompt cannot be rebuilt from the store", "privacy", "entities_recovered"),
        Promise("Nobody can tell whether a prompt is in the log", "privacy", "membership_auc"),
        Promise(
            "No secret of the pool in Ray's files", "nodes", "secret", "tests/integration/test_secrets.py"
        ),
    ),
    "The door": (
        Promise(
            "Half-open and trickling connections disturb nobody",
            "door",
            "from",
            "tests/integration/test_guard.py",
        ),
        Promise("Bodies without a key cost no memory", "door", "strangers"),
        Promise(
            "Large bodies at once hold a bounded memory",
            "bodies",
            "one after the other|all: ",
            "tests/serve_app/http/test_bodies.py",
        ),
        Promise("Readers that stall are left", "door", "readers|until all are left"),
        Promise("A body without end is cut", "door", "body without end"),
        Promise(
            "2 MiB of the worst keep nobody waiting for long",
            "event_loop",
            "longest step",
            "tests/serve_app/body/test_strict_json.py",
        ),
        Promise("Schemas that cost much to compile are refused", test="tests/serve_app/body/test_schemas.py"),
        Promise("Media URLs reach named hosts only", test="tests/serve_app/body/test_media.py"),
        Promise(
            "A key file that cannot be used closes the pool", test="tests/deployments/keys/test_watch.py"
        ),
        Promise(
            "Limits and budgets hold over replicas and kills",
            "budgets",
            test="tests/serve_app/access/test_leases.py",
        ),
    ),
    "Faults": (
        Promise("Nearly every request is answered while parts are killed", "chaos", "answered outside"),
        Promise(
            "HAProxy killed: back at once",
            "chaos",
            "longest time without",
            "tests/serve_app/http/test_haproxy_bridge.py",
        ),
        Promise("Never a 404 while a model could answer", "chaos", "404"),
        Promise(
            "No stream ends as if it were whole", "chaos", "silence", "tests/serve_app/upstream/test_relay.py"
        ),
        Promise(
            "What was acknowledged is counted, and once",
            "chaos",
            "acknowledged|twice|usage",
            "tests/integration/test_table_faults.py",
        ),
        Promise("No process grows", "chaos", "growth"),
        Promise(
            "A replica killed or hung fails nobody without a first byte",
            test="tests/integration/test_faults.py",
        ),
        Promise(
            "Replicas that pause at random: half the tail of the first token, for little work",
            "hedge",
            "p99|work|without an answer",
            "tests/serve_app/upstream/test_hedge.py",
        ),
        Promise(
            "One of two replicas hangs: few answers are late",
            "hedge",
            "hangs",
            "tests/serve_app/routes/test_late_replicas.py",
        ),
        Promise(
            "A change of the pool fails no request", "redeploy", test="tests/integration/test_redeploy.py"
        ),
        Promise("A change of a pool of real engines fails no request", "redeploy-real"),
        Promise(
            "A node lost: the other proxies serve on", "nodes", "proxy that failed after|last failure|no part"
        ),
        Promise("The store keeps its size over a week", "week"),
        Promise(
            "A clock that is set back an hour loses nothing", test="tests/deployments/test_steady_clock.py"
        ),
    ),
    "Overload": (
        Promise(
            "Long prompts replace no replica and fail nobody",
            "long_prompts",
            test="tests/deployments/model/engines/test_base.py",
        ),
        Promise(
            "A prompt that ends replicas goes to no third one", test="tests/serve_app/upstream/test_losses.py"
        ),
        Promise(
            "Three times the capacity: as much is answered, the rest refused at once",
            "overload",
            "three times",
            "tests/serve_app/waiting/test_room.py",
        ),
        Promise("`Retry-After` is true", "overload", "burst"),
        Promise(
            "A neighbour who floods takes nothing of another key's share",
            "overload",
            "neighbour",
            "tests/serve_app/waiting/test_line.py",
        ),
        Promise("Interactive requests come before batch ones", "overload", "batch"),
        Promise(
            "Short requests wait less, and no deadline passes for it",
            "order",
            test="tests/serve_app/waiting/test_turns.py",
        ),
        Promise("A retry never multiplies the load", test="tests/serve_app/upstream/test_retry_budget.py"),
        Promise("Limits of a key", test="tests/serve_app/access/test_limits.py"),
        Promise("A dispatch takes its time at most", "decision"),
        Promise("The learned policy holds under overload", "load", "overload"),
    ),
    "Safe learning": (
        Promise("A worse policy is not promoted, a better one is", "safety"),
        Promise("A canary tells what full use of a version is worth", "evidence"),
        Promise("Over a pool's life nothing worse is promoted, and what is better soon", "lifetime"),
        Promise("Kills at every step of a rollout", test="tests/integration/test_loop_kills.py"),
        Promise(
            "One key cannot force the dearest model",
            test="tests/deployments/dispatch/test_dispatch_attacks.py",
        ),
        Promise("What attacks on learning gain is bounded", "attacks"),
        Promise("A vote counts once", test="tests/integration/test_feedback_machine.py"),
        Promise("Traffic follows when a model changes", "drift"),
    ),
    "Supply chain": (
        Promise("Locks, licences and lists of components fit", test="tests/scripts/test_locks.py"),
        Promise("Nothing is loaded in a way that could run it", test="tests/test_loading.py"),
    ),
}


def _stored(name: str) -> dict[str, Any] | None:
    path = FOLDER / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found


def _rows(promise: Promise) -> Iterable[str]:
    """Rows of a promise: one for each bar that it names, or one for its test."""
    if promise.test:
        test = f"`scripts/test.sh {promise.test}`"
    if promise.bench:
        document = _stored(promise.bench)
        if document is None:
            yield f"| {promise.text} | not stored yet | | | `python scripts/bench.py {promise.bench}` |"
        else:
            command = f"`{document['command'].partition(' --json')[0]}`"
            bars = [one for one in document["bars"] if re.search(promise.bars, one["name"])]
            if not bars:
                raise ValueError(f"benchmarks/{promise.bench}.json has no bar that fits '{promise.bars}'.")
            yield from (_row(promise.text, one, command) for one in worst(bars))
    if promise.test:
        yield f"| {promise.text} | held by the test | | | {test} |"


def worst(bars: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """The bars, but of three or more that measure the same in several settings only the worst.

    What they measure stands behind the first colon of their names, the setting before it.
    """
    kinds: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for one in bars:
        kinds.setdefault((one["name"].partition(": ")[2] or one["name"], one["op"], one["bar"]), []).append(
            one
        )
    for (what, op, _), alike in kinds.items():
        if len(alike) < _FOLDED:
            yield from alike
            continue
        worst = (max if op == "<=" else min)(alike, key=lambda one: float(one["value"]))
        name = f"{what}, the worst of {len(alike)} ({worst['name'].partition(': ')[0]})"
        yield {**worst, "name": name, "passed": all(one["passed"] for one in alike)}


def _row(text: str, one: dict[str, Any], command: str) -> str:
    limit = f"{one['op']} {one['bar']:g}"
    return f"| {text} | {one['name']}: {one['value']:.4g} | {limit} | {_passed(one)} | {command} |"


def _passed(one: dict[str, Any]) -> str:
    return "yes" if one["passed"] else "**no**"


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, promises in SECTIONS.items():
        parts += [f"## {name}", "", "| promise | measured | bar | kept | command |", "|---|---|---|---|---|"]
        parts += [*(row for promise in promises for row in _rows(promise)), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
