"""The `paretobandit` package beside ours on the same stream, in an environment of its own."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from policies.arrays import F64
from policies.quality.tfidf import embedding_table
from scripts.benchmarks.quality.data import Rows, Scored
from scripts.benchmarks.quality.routers import tfidf
from scripts.benchmarks.serving.environments import installed

PACKAGE: Final = "paretobandit==0.1.*"
_WIDTH: Final = 25  # dimensions that the package's authors use
_CHILD: Final = Path(__file__).with_name("paretobandit_child.py")


def package_passes(
    train: Scored, test: Scored, arms: list[Rows], orders: list[Rows], budgets: list[float], venv: Path
) -> list[list[tuple[float, float]]]:
    """[budgets][seeds] mean reward and cost of the package, its pacer keeping the budget.

    It learns from the same arms of the same prompts as ours, `arms` [seeds][N], and is scored on the same
    orders [seeds][T]. Its sentence encoder needs a download, so it sees the first 25 principal components
    of what our networks see.
    """
    learned, scored = _contexts(train, test)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "stream.npz", Path(folder) / "result.json"
        np.savez(
            source, learned=learned, scored=scored, arms=np.array(arms), orders=np.array(orders),
            budgets=np.array(budgets), models=np.array(train.models), prices=np.nanmean(train.costs, axis=0),
            scores=train.scores, next_scores=test.scores, next_costs=test.costs,
        )  # fmt: skip
        subprocess.run(
            [installed(venv, PACKAGE, "python"), str(_CHILD), str(source), str(target)], check=True
        )
        found = json.loads(target.read_text(encoding="utf-8"))
    return [[(reward, cost) for reward, cost in passes] for passes in found]


def _contexts(train: Scored, test: Scored) -> tuple[F64, F64]:
    """[N, 25], [T, 25] whitened principal components of embedding and style, fitted on `train`."""
    x, z = tfidf(train, test)
    table = embedding_table(x, 64, 0)
    both = [
        np.concatenate([matrix @ table * 4.0, np.array([prompt.style for prompt in data.features])], axis=1)
        for matrix, data in ((x, train), (z, test))
    ]
    centre = both[0].mean(axis=0)
    _, sizes, directions = np.linalg.svd(both[0] - centre, full_matrices=False)
    rotation = (directions[:_WIDTH] / sizes[:_WIDTH, None]).T * np.sqrt(len(train))
    learned, scored = ((some - centre) @ rotation for some in both)
    return learned, scored
