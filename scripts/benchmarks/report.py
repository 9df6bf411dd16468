"""What every benchmark shares: bars, intervals, a printed table, the JSON file, the exit code."""

import json
import math
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from scipy import stats

from serve_app.console.text_table import print_table

Op = Literal[">=", "<="]


@dataclass(frozen=True, slots=True)
class Bar:
    """One number held against its bar. `spread` is the half-width of the value's 95 % interval."""

    name: str
    value: float
    spread: float
    op: Op
    bar: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found. `results` is free-form and JSON-able."""

    name: str
    bars: tuple[Bar, ...]
    results: Mapping[str, object] = field(default_factory=dict)


_HOLDS: Final[Mapping[Op, Callable[[float, float], bool]]] = {
    ">=": lambda value, limit: value >= limit,
    "<=": lambda value, limit: value <= limit,
}


def bar(name: str, value: float, op: Op, limit: float, spread: float = 0.0) -> Bar:
    """A bar judged on its value; a value that is not finite never passes."""
    passed = math.isfinite(value) and _HOLDS[op](value, limit)
    return Bar(name, float(value), float(spread), op, float(limit), passed)


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval (Student's t); the half-width is 0 below two values."""
    data = [float(v) for v in values]
    if not data:
        return float("nan"), 0.0
    mean = sum(data) / len(data)
    if len(data) < 2:
        return mean, 0.0
    deviation = math.sqrt(sum((v - mean) ** 2 for v in data) / (len(data) - 1))
    return mean, float(stats.t.ppf(0.975, len(data) - 1)) * deviation / math.sqrt(len(data))


def _git() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def finish(
    report: Report,
    argv: Sequence[str],
    start_machine: Mapping[str, object],
    out: Path | None,
    command: Sequence[str] = ("python", "scripts/bench.py"),
) -> int:
    """Print the bars, write `out`, and give the exit code: 1 when a bar failed."""
    if report.bars:
        rows = [(b.name, b.value, b.spread, b.op, b.bar, "yes" if b.passed else "NO") for b in report.bars]
        print_table(("bar", "value", "± 95 %", "", "limit", "passed"), rows, title=report.name)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "name": report.name,
            "command": shlex.join([*command, *_public(argv)]),
            "git": _git(),
            "machine": dict(start_machine),
            "bars": [asdict(b) for b in report.bars],
            "results": report.results,
        }
        out.write_text(
            json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False, default=float) + "\n"
        )
        print(f"\nwritten: {out}")
    return 0 if all(b.passed for b in report.bars) else 1


def _public(argv: Sequence[str]) -> list[str]:
    """Arguments as anyone may repeat them: files by name, without this machine's folders."""
    return [Path(a).name if os.path.isabs(a) or a.startswith("..") else a for a in argv]
