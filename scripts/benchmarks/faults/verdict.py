"""What a run of faults comes to: what clients saw, compared with what the pool counted, and bars."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scripts.benchmarks.report import Bar, bar
from scripts.benchmarks.serving.steady_load import Asked

DOWN_S: Final = 5.0
GROWTH_MIB: Final = 64.0
SLOW_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault: when (monotonic), and seconds until what it hit was back; None: not before the end."""

    kind: str
    signal: str
    at_s: float
    back_s: float | None

    @property
    def takes_the_door(self) -> bool:
        """Whether clients cannot be answered for a while: HAProxy itself was killed."""
        return self.kind == "haproxy" and self.signal == "SIGKILL"


@dataclass(frozen=True, slots=True)
class Books:
    """The log of the pool: ids of all decisions, and of those with an outcome."""

    decisions: tuple[str, ...]
    ended: frozenset[str]


def outside(asked: Sequence[Asked], hits: Sequence[Hit]) -> list[Asked]:
    """Requests that were not under way while HAProxy was down."""
    spans = [(hit.at_s, hit.at_s + (hit.back_s or DOWN_S)) for hit in hits if hit.takes_the_door]
    return [
        one
        for one in asked
        if not any(one.began_s <= until_s and one.began_s + one.took_s >= at_s for at_s, until_s in spans)
    ]


def broken_elsewhere(judged: Sequence[Asked], hits: Sequence[Hit]) -> list[Asked]:
    """Streams without their error event, though no ingress replica that could send it was killed."""
    kills = [hit.at_s for hit in hits if hit.kind == "ingress" and hit.signal == "SIGKILL"]
    return [
        one
        for one in judged
        if one.stream and one.cut == "broken"
        if not any(one.began_s - 1.0 <= at_s <= one.began_s + one.took_s for at_s in kills)
    ]


def is_failure(one: Asked) -> bool:
    """A 5xx, a 404 though the path is right, a reset, or a plain answer that broke off."""
    return one.status != 200 or (bool(one.error) and not one.stream)


def bars(
    asked: Sequence[Asked], hits: Sequence[Hit], books: Books, counted: int, growth: Mapping[str, float]
) -> tuple[Bar, ...]:
    """The promises."""
    judged = outside(asked, hits)
    whole = [one for one in asked if not one.error]
    times = Counter(hit.kind for hit in hits)
    downs = [hit.back_s or 60.0 for hit in hits if hit.takes_the_door]
    lost = [one for one in whole if one.decision_id not in books.ended]
    return (
        bar("answered outside HAProxy's down time, share", 1.0 - _share(judged), ">=", 0.999),
        bar("longest time without HAProxy, s", max(downs, default=0.0), "<=", DOWN_S),
        bar("404", sum(one.status == 404 for one in asked), "<=", 0),
        bar("streams that broke off with no ingress lost", len(broken_elsewhere(judged, hits)), "<=", 0),
        bar("streams that end in silence", sum(one.cut == "silent" for one in asked), "<=", 0),
        bar("acknowledged and not in the log", len(lost), "<=", 0),
        bar("ids twice", len(books.decisions) - len(set(books.decisions)), "<=", 0),
        bar("`fastserve usage` against the log, requests", abs(counted - len(books.ended)), "<=", 0),
        bar("largest growth of a process, MiB", max(growth.values(), default=0.0), "<=", GROWTH_MIB),
        bar("faults of the rarest kind", min(times.values(), default=0), ">=", 2),
    )


def _share(asked: Sequence[Asked]) -> float:
    return sum(map(is_failure, asked)) / len(asked) if asked else 1.0


def summary(asked: Sequence[Asked], hits: Sequence[Hit], books: Books, counted: int) -> dict[str, Any]:
    """Counts, and a row for each fault."""
    began_s = min((one.began_s for one in asked), default=0.0)
    return {
        "requests": len(asked),
        "streams": sum(one.stream for one in asked),
        "answers": dict(Counter(str(one.status) for one in asked)),
        "cut": dict(Counter(one.cut for one in asked if one.cut)),
        "in HAProxy's down time": len(asked) - len(outside(asked, hits)),
        "logged": len(books.decisions),
        "logged with an outcome": len(books.ended),
        "usage": counted,
        "recoveries": [_row(asked, hits, index, began_s) for index in range(len(hits))],
    }


def _row(asked: Sequence[Asked], hits: Sequence[Hit], index: int, began_s: float) -> dict[str, Any]:
    """What clients saw from a fault until the next: requests that were under way at it or began after it."""
    hit = hits[index]
    until_s = hits[index + 1].at_s if index + 1 < len(hits) else hit.at_s + 10.0
    during = [one for one in asked if one.began_s < until_s and one.began_s + one.took_s >= hit.at_s]
    return {
        "at_s": round(hit.at_s - began_s, 1),
        "part": hit.kind,
        "signal": hit.signal,
        "back_s": None if hit.back_s is None else round(hit.back_s, 2),
        "requests": len(during),
        "failed": sum(map(is_failure, during)),
        "told": sum(one.cut == "told" for one in during),
        "broken": sum(one.cut == "broken" and one.stream for one in during),
        "over_2_s": sum(one.took_s > SLOW_S for one in during),
        "slowest_s": round(max((one.took_s for one in during), default=0.0), 2),
    }
