"""Tables from evaluation records: accuracy by model and task with intervals, latency, tokens, cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from scipy import stats

from deployments.records.records import EvaluationRecord
from policies.promotion.confidence import Z95, wilson

ALL: Final = "all"  # the task that stands for every task of a suite


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one task. Times in seconds, percentiles over items; NaN where nothing was measured."""

    suite: str
    task: str
    model: str
    items: int
    accuracy: float  # mean score
    low: float  # 95 % interval of the accuracy (Wilson)
    high: float
    squared_error: float  # mean, over numeric answers that had a number
    numbers: int  # how many those are
    ttft_p50_s: float
    ttft_p95_s: float
    tpot_p50_s: float
    e2e_p50_s: float
    e2e_p95_s: float
    prompt_tokens: int
    output_tokens: int
    cost_usd: float
    errors: int  # items the endpoint refused for this model; they score 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Two models on the same items of a suite: paired difference of the mean score, interval and p."""

    suite: str
    first: str
    second: str
    items: int
    difference: float
    low: float
    high: float
    p: float  # two-sided, exact McNemar (sign) test over the items where the scores differ


def summarise(records: Sequence[EvaluationRecord]) -> list[Cell]:
    """One cell for each suite, task (and 'all') and model, in the order of appearance."""
    groups: dict[tuple[str, str, str], list[EvaluationRecord]] = {}
    for record in records:
        for task in (record.task, ALL):
            groups.setdefault((record.suite, task, record.model), []).append(record)
    order = {key: place for place, key in enumerate(groups)}
    keys = sorted(groups, key=lambda key: (key[0], key[1] == ALL, order[key]))
    return [_cell(*key, groups[key]) for key in keys]


def differences(records: Sequence[EvaluationRecord]) -> list[Difference]:
    """Each two models of a suite, on the items that both answered."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for record in records:
        scores.setdefault(record.suite, {}).setdefault(record.model, {})[record.item] = record.score
    found = []
    for suite, by_model in scores.items():
        for first, second in combinations(sorted(by_model), 2):
            common = [item for item in by_model[first] if item in by_model[second]]
            if common:
                deltas = np.array([by_model[first][item] - by_model[second][item] for item in common])
                found.append(_difference(suite, first, second, deltas))
    return found


def to_json(cells: Iterable[Cell], pairs: Iterable[Difference]) -> dict[str, Any]:
    """The report as JSON-able data; what is not a number is null."""
    return {"cells": [_plain(asdict(c)) for c in cells], "differences": [_plain(asdict(d)) for d in pairs]}


def _difference(suite: str, first: str, second: str, deltas: Any) -> Difference:
    wins, losses = int((deltas > 0).sum()), int((deltas < 0).sum())
    p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    mean = float(deltas.mean())
    half = Z95 * float(deltas.std(ddof=1)) / math.sqrt(len(deltas)) if len(deltas) > 1 else float("nan")
    return Difference(suite, first, second, len(deltas), mean, mean - half, mean + half, p)


def _cell(suite: str, task: str, model: str, records: Sequence[EvaluationRecord]) -> Cell:
    accuracy = sum(r.score for r in records) / len(records)
    low, high = wilson(accuracy, len(records))
    squared = [r.squared_error for r in records if r.squared_error is not None]
    ttft, tpot, e2e = (_times(records, name) for name in ("ttft_s", "tpot_s", "e2e_s"))
    return Cell(
        suite=suite,
        task=task,
        model=model,
        items=len(records),
        accuracy=accuracy,
        low=low,
        high=high,
        squared_error=sum(squared) / len(squared) if squared else float("nan"),
        numbers=len(squared),
        ttft_p50_s=_percentile(ttft, 50),
        ttft_p95_s=_percentile(ttft, 95),
        tpot_p50_s=_percentile(tpot, 50),
        e2e_p50_s=_percentile(e2e, 50),
        e2e_p95_s=_percentile(e2e, 95),
        prompt_tokens=sum(r.prompt_tokens for r in records),
        output_tokens=sum(r.output_tokens for r in records),
        cost_usd=sum(r.cost_usd for r in records),
        errors=sum(r.error is not None for r in records),
    )


def _times(records: Sequence[EvaluationRecord], name: str) -> list[float]:
    return [value for record in records if (value := getattr(record, name)) is not None]


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
