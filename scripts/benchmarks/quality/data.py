"""Scored prompts from a file: `prompt`, `task`, `scores` {model: number}, `costs` {model: USD} if known."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.arrays import F64
from policies.prompt.features import PromptFeatures, extract

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Scored:
    """N prompts, M models: `scores` [N, M] in [0, 1] and `costs` [N, M] in USD, NaN where unknown; so are
    `output_tokens` [N, M] of data that was read whole."""

    name: str
    prompts: tuple[str, ...]
    tasks: tuple[str | None, ...]
    models: tuple[str, ...]
    scores: F64
    costs: F64
    features: tuple[PromptFeatures, ...]
    output_tokens: F64 | None = None

    @property
    def priced(self) -> bool:
        """Whether every answer has a cost."""
        return bool(np.isfinite(self.costs[np.isfinite(self.scores)]).all())

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int] | Rows) -> "Scored":
        """The prompts `rows`, in that order."""
        index = [int(row) for row in rows]
        pick = [(self.prompts[i], self.tasks[i], self.features[i]) for i in index]
        prompts, tasks, features = zip(*pick, strict=True) if pick else ((), (), ())
        tokens = None if self.output_tokens is None else self.output_tokens[index]
        return Scored(
            self.name, prompts, tasks, self.models, self.scores[index], self.costs[index], features, tokens
        )


def read(path: Path, models: Sequence[str] | None = None) -> Scored:
    """Read a .jsonl or .jsonl.gz file. Raises SystemExit naming the line or the models at fault."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    rows = [_row(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise SystemExit(f"'{path}' holds no prompt.")
    known = sorted({model for row in rows for model in row["scores"]})
    chosen = list(models) if models else known
    missing = [model for model in chosen if model not in known]
    if missing:
        raise SystemExit(f"Models {missing} have no score in '{path.name}'. Scored: {', '.join(known)}.")
    scores = np.array([[_number(row["scores"].get(model)) for model in chosen] for row in rows])
    costs, tokens = (
        np.array([[_number((row.get(name) or {}).get(model)) for model in chosen] for row in rows])
        for name in ("costs", "output_tokens")
    )
    kept = np.flatnonzero(np.isfinite(scores).any(axis=1))
    prompts = tuple(row["prompt"] for row in rows)
    tasks = tuple(row.get("task") for row in rows)
    features = tuple(extract(prompt) for prompt in prompts)
    found = Scored(path.name.split(".")[0], prompts, tasks, tuple(chosen), scores, costs, features, tokens)
    return found if len(kept) == len(rows) else found.take(kept)


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SystemExit(f"'{path}', line {number}: not JSON, {error}.") from error
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise SystemExit(f"'{path}', line {number}: needs 'prompt', a text.")
    if not isinstance(row.get("scores"), dict):
        raise SystemExit(f"'{path}', line {number}: needs 'scores', an object of model: number in [0, 1].")
    found: dict[str, Any] = row
    return found


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
