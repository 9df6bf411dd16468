"""Writes docs/performance.md, what the path of a request costs: `python -m scripts.performance [--check]`."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.benchmarks.streams.readings import DIRECT, Row, cases
from scripts.pages import write_or_check

PAGE: Final = Path("docs/performance.md")
FOLDER: Final = Path("benchmarks")
_HEAD: Final = """# Performance: what the path costs

What FastServe adds to a request and to a token, against whom, and where it goes. Written by
`python -m scripts.performance` from the results in `benchmarks/`, where each has its machine and all it
measured. CPU is that of all processes on the way, HAProxy and table included, unless a column says otherwise.
"""
_GATEWAY: Final = """## A request
One client after the other before one mock upstream: FastServe by `auto` and by name, a bare Ray Serve
pass-through (FastAPI in, httpx out, nothing between) and LiteLLM's proxy. Added time is that over the mock
asked directly.
"""
_PROFILE: Final = """## Where the ingress spends it
Shares of the ingress's CPU by part, sampled; a sample counts for the innermost frame that belongs to a
part.
"""
_FLAMES: Final = "`--flames FILE` draws the same as flames.\n"
_STREAMS: Final = """## Many streams
Simulated engines give each stream 20 tokens/s, one token an event. Added time is that over the same streams
read from the engines directly. Where the machine's cores were full, times say more about the machine than
about the path.
"""
_DECISION: Final = """## A decision
From the parsed request to the model, in process, nothing asked of anybody. Features of the prompt are part
of it; counting tokens is not: it happens off the event loop, and only where bounds do not say whether a
prompt fits.
"""
_REPLICA: Final = """## The right replica
Time to first token by our choice of replica against the least busy one, in simulated engines with a prefix
cache of half the working set ([notes/replicas.md](notes/replicas.md)).
"""
_ORDER: Final = """## The right order
Requests that wait for a full model: short ones first by what is predicted, beside first come, first served
with the same admission, and beside known lengths ([limits.md](limits.md#when-a-model-is-full)). What is
refused, or late, counts as its deadline.
"""
_HEDGE: Final = """## A second try in time
Time to the first token with a second try beside a late one over that without, where four replicas pause 2 %
of the time each; and plain answers while one of two replicas hangs for eight seconds
([limits.md](limits.md#when-a-replica-is-late)).
"""
_REAL: Final = """## Real engines
vLLM's small models on CPU cores, many streams, against the same engine process asked directly.
"""


def stored(name: str) -> dict[str, Any]:
    """A stored result."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return document


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _measured(document: dict[str, Any]) -> str:
    machine = document["machine"]
    return f"`{document['command']}`, {machine['cores']} cores of {machine['cpu']}.\n"


def _bars(document: dict[str, Any], piece: str = "") -> str:
    rows = [
        (
            one["name"],
            one["value"],
            one["spread"],
            f"{one['op']} {one['bar']:g}",
            "yes" if one["passed"] else "**no**",
        )
        for one in document["bars"]
        if piece in one["name"]
    ]
    return _table(("bar", "value", "spread", "limit", "passed"), rows)


def _gateway() -> str:
    document = stored("gateway")
    rows = [
        (way, row["cpu_us"] / 1e3, row["added_p50_ms"], row["added_p99_ms"])
        for way, row in document["results"]["ways"].items()
    ]
    table = _table(("way", "CPU ms a request", "added p50 ms", "added p99 ms"), rows)
    return "\n".join((_GATEWAY, table, _measured(document)))


def _profile() -> str:
    document = stored("profile")
    forms = document["results"]
    parts = sorted({part for one in forms.values() for part in one["shares"]})
    parts.sort(key=lambda part: -max(one["shares"].get(part, 0.0) for one in forms.values()))
    rows = [(part, *(f"{one['shares'].get(part, 0.0):.0%}" for one in forms.values())) for part in parts]
    return "\n".join((_PROFILE, _table(("part", *forms), rows), _FLAMES, _measured(document)))


def _streams() -> str:
    document = stored("streams")
    rows = [Row(**row) for row in document["results"]["rows"]]
    table = [
        (*case.name, case.tokens_per_s, case.gateway_us, case.cpu_us("haproxy"), case.added_p50_ms,
         case.added_p99_ms, case.kb_a_stream, f"{case.busy:.0%}")
        for case in cases(rows)
        if case.name[1] != DIRECT
    ]  # fmt: skip
    headers = ("ingress replicas", "way", "streams", "prompt", "tokens/s", "gateway us a token", "HAProxy us",
               "added p50 ms", "added p99 ms", "kB a stream", "cores used")  # fmt: skip
    return "\n".join((_STREAMS, _table(headers, table), _bars(document, "streams."), _measured(document)))


def _decision() -> str:
    document = stored("decision")
    return "\n".join((_DECISION, _bars(document), _measured(document)))


def _replica() -> str:
    document = stored("prefix")
    return "\n".join((_REPLICA, _bars(document, "over least busy"), _measured(document)))


def _order() -> str:
    document = stored("order")
    rows = [
        (load, way, row["mean_s"], row["p99_s"], f"{row['in_target']:.0%}")
        for load, ways in document["results"]["loads"].items()
        for way, row in ways.items()
    ]
    table = _table(("load", "order by", "mean s", "p99 s", "in target"), rows)
    return "\n".join((_ORDER, table, _bars(document), _measured(document)))


def _hedge() -> str:
    document = stored("hedge")
    sides = document["results"]
    rows = [(name, *(side[name] for side in sides.values())) for name in sides["with"]]
    table = _table(("measured", *sides), rows)
    return "\n".join((_HEDGE, _bars(document), table, _measured(document)))


def _real() -> str:
    document = stored("serving")
    return "\n".join((_REAL, _bars(document), _measured(document)))


def page() -> str:
    """The whole page."""
    parts = (_gateway, _profile, _streams, _decision, _replica, _order, _hedge, _real)
    return "\n".join((_HEAD, *(part() for part in parts)))


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
