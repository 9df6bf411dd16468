"""How often a harmless rewording of a prompt leaves the choice as it is.

A quality model is fitted on some prompts; on others the formula chooses by predicted accuracy, all models
equally fast, for the prompt as it stands and reworded: what moves is what the words alone move. Prompts on
which the models' predictions are close may change hands at no cost, so the loss in predicted and in true
score is shown beside the share. There is no bar; the shares are reported.
"""

import argparse
import gzip
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from policies.arrays import F64
from policies.formula import masked_softmax
from policies.prompt.features import extract
from policies.quality.data import QualityData, ScoredAnswer
from policies.quality.model import QualityModel
from policies.quality.training import fit
from policies.utility import DEFAULT_BETA
from scripts.benchmarks.report import Report, interval
from serve_app.console.text_table import print_table

REWORDINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "polite opening": lambda text: f"Please help me with this. {text}",
    "thanks at the end": lambda text: f"{text.rstrip()}\nThank you!",
    "upper case": str.upper,
    "white space": lambda text: text.replace(" ", "  ").replace("\n", "\n\n"),
    "typographic signs": lambda text: text.replace("'", "’").replace('"', "”").replace("-", "–"),
    "without the full stop": lambda text: text.rstrip().rstrip(".?!"),
    "question spelled out": lambda text: f"Question: {text.removeprefix('Q:').lstrip()}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, required=True, help="JSONL (.gz): 'prompt', 'scores' by model")
    parser.add_argument("--fit", type=int, default=3_000, help="prompts to fit on (default 3000)")
    parser.add_argument("--test", type=int, default=1_000, help="prompts to reword (default 1000)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> Report:
    """Fit, choose for every rewording, compare."""
    prompts, models, scores = read(args.data)
    order = random.Random(args.seed).sample(range(len(prompts)), len(prompts))
    fitted, tested = order[: args.fit], order[args.fit : args.fit + args.test]
    if not tested:
        raise SystemExit(f"'{args.data}' has {len(prompts)} prompts: --fit {args.fit} leaves none to reword.")
    answers = [
        ScoredAnswer(str(i), extract(prompts[i]), model, float(score))
        for i in fitted
        for model, score in zip(models, scores[i], strict=True)
    ]
    model = fit(QualityData.from_answers(answers))
    as_is = np.stack([predict(model, models, prompts[i]) for i in tested])
    rows = []
    for name, reword in tqdm(REWORDINGS.items(), unit="rewording"):
        other = np.stack([predict(model, models, reword(prompts[i])) for i in tested])
        rows.append(compared(name, as_is, other, scores[tested]))
    print_table(
        list(rows[0]), [list(row.values()) for row in rows], f"{len(tested)} prompts, {len(models)} models"
    )
    mean, _ = interval(row["unchanged"] for row in rows)
    return Report("rewording", (), {"rewordings": rows, "unchanged_mean": mean, "models": list(models)})


def compared(name: str, as_is: F64, other: F64, scores: F64) -> dict[str, Any]:
    """Choices by predictions `as_is` [N, M] against those by `other` [N, M]; true `scores` [N, M]."""
    first, second = as_is.argmax(axis=1), other.argmax(axis=1)
    everyone = np.ones(as_is.shape[1], dtype=bool)
    moved = [
        float(
            np.abs(
                masked_softmax(DEFAULT_BETA * a, everyone) - masked_softmax(DEFAULT_BETA * b, everyone)
            ).sum()
        )
        / 2
        for a, b in zip(as_is, other, strict=True)
    ]
    each = np.arange(len(first))
    unchanged, spread = interval((first == second).astype(float))
    return {
        "rewording": name,
        "unchanged": unchanged,
        "unchanged_spread": spread,
        "probability_moved": float(np.mean(moved)),
        "predicted_loss": float(np.mean(as_is[each, first] - as_is[each, second])),
        "score_loss": float(np.mean(scores[each, first] - scores[each, second])),
    }


def predict(model: QualityModel, models: tuple[str, ...], prompt: str) -> F64:
    """[M] expected scores."""
    return model.predict(extract(prompt), models)[0]


def read(path: Path) -> tuple[list[str], tuple[str, ...], F64]:
    """Prompts, models and scores [N, M] of a JSONL file; prompts that lack a model's score are left out."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    models = tuple(sorted({model for row in rows for model in row["scores"]}))
    full = [row for row in rows if set(row["scores"]) == set(models)]
    scores = np.array([[float(row["scores"][model]) for model in models] for row in full])
    return [str(row["prompt"]) for row in full], models, scores
