"""Readings of many streams, and their means by case, each beside the same streams read from the engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

DIRECT: Final = "direct"  # the way without a gateway
CARRIERS: Final = {"fastserve": "ingress", "bare ray serve": "bare", "litellm": "litellm"}  # process by way


@dataclass(frozen=True, slots=True)
class Row:
    """One reading. CPU in microseconds a token, by group of processes."""

    ingresses: int
    way: str
    streams: int
    prompt: str
    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    kb_a_stream: float
    busy: float  # share of the machine's cores
    ended_early: int


@dataclass(frozen=True, slots=True)
class Case:
    """All readings of one way with so many streams; `rows` are these, all else are their means."""

    rows: tuple[Row, ...]
    added_p50_ms: float  # between two tokens, over the direct way
    added_p99_ms: float
    tokens_per_s: float
    kb_a_stream: float
    busy: float

    @property
    def name(self) -> tuple[int, str, int, str]:
        """Ingress replicas, way, streams, prompt."""
        return _name(self.rows[0])

    @property
    def gateway_us(self) -> float:
        """CPU a token of the process that carries the stream."""
        return self.cpu_us(CARRIERS.get(self.rows[0].way, ""))

    def cpu_us(self, group: str) -> float:
        """CPU a token of a group of processes."""
        return mean(row.cpu_us.get(group, 0.0) for row in self.rows)


def _name(row: Row) -> tuple[int, str, int, str]:
    return row.ingresses, row.way, row.streams, row.prompt


def cases(rows: Sequence[Row]) -> list[Case]:
    """Readings by case, in the order of their first ones."""
    grouped: dict[tuple[int, str, int, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault(_name(row), []).append(row)
    return [
        _case(some, grouped[ingresses, DIRECT, streams, prompt])
        for (ingresses, _, streams, prompt), some in grouped.items()
    ]


def _case(some: Sequence[Row], base: Sequence[Row]) -> Case:
    return Case(
        rows=tuple(some),
        added_p50_ms=mean(row.p50_ms for row in some) - mean(row.p50_ms for row in base),
        added_p99_ms=mean(row.p99_ms for row in some) - mean(row.p99_ms for row in base),
        tokens_per_s=mean(row.tokens_per_s for row in some),
        kb_a_stream=mean(row.kb_a_stream for row in some),
        busy=mean(row.busy for row in some),
    )
