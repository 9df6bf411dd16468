"""What users' votes add to the evaluation: better predictions for prompts never seen; and what a liar can do.

A part of the prompts is evaluated, every model on each; on the others users vote on the one answer that
they got, drawn by the dispatch with 5 % exploration; the rest is scored. Data as for `quality`.
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from policies.arrays import F64
from policies.formula import masked_softmax
from policies.prompt.features import pack
from policies.quality.data import QualityData
from policies.quality.model import QualityModel
from policies.quality.training import fit
from policies.quality.votes import KEY_CAP, Vote, with_votes
from scripts.benchmarks.quality.data import Scored, read
from scripts.benchmarks.quality.routers import chosen_scores
from scripts.benchmarks.report import Bar, Report, bar, interval
from serve_app.console.text_table import print_table

SCORED: Final = 0.25  # share of the prompts
BETA, EPSILON = 20.0, 0.05  # as dispatch has them
LIAR_SHARE: Final = 0.2  # of all votes, from one key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="scored prompts")
    parser.add_argument("--evaluated", type=int, default=300, help="prompts that every model answers")
    parser.add_argument("--keys", type=int, default=100, help="users that vote")
    parser.add_argument("--most", type=int, default=6000, help="prompts of a file that are used")
    parser.add_argument("--seeds", type=int, default=8)


def run(args: argparse.Namespace) -> Report:
    """Gain of each file, and by how much a liar moves what is predicted for others."""
    results: dict[str, object] = {}
    bars: list[Bar] = []
    rows = []
    for path in args.data:
        data = read(path)
        found = np.array(
            [_once(data, args, seed) for seed in tqdm(range(args.seeds), desc=data.name, disable=None)]
        )
        names = ("evaluation", "with_votes", "gain", "error_ratio", "liar_moves")
        summary = {
            name: dict(zip(("mean", "interval"), interval(column), strict=True))
            for name, column in zip(names, found.T, strict=True)
        }
        results[data.name] = {"prompts": len(data), **summary}
        rows.append((data.name, *(summary[name]["mean"] for name in names)))
        ratio = summary["error_ratio"]
        bars.append(bar(f"{data.name}: error with votes", ratio["mean"], "<=", 1.0, ratio["interval"]))
        bars.append(bar(f"{data.name}: a liar moves others by", float(found[:, -1].max()), "<=", KEY_CAP))
    print_table(("data", *names), rows)
    return Report("feedback", tuple(bars), results)


def _once(data: Scored, args: argparse.Namespace, seed: int) -> tuple[float, ...]:
    """Chosen score by the evaluation alone and with votes, the gain; the squared error of what sets a model
    apart from the others with votes over that without; the largest mean move by a liar."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(data))[: args.most]
    last = len(order) - int(SCORED * len(order))
    known, asked, scored = (
        data.take(rows) for rows in np.split(order, [min(args.evaluated, last // 2), last])
    )
    model = fit(QualityData.full(known.features, known.models, known.scores), now_s=0.0)
    votes = _votes(model, asked, args.keys, random)
    lies = [
        Vote("liar", vote.model, 1.0 - round(vote.score), vote.features, vote.propensity)
        for vote in votes[: int(len(votes) * LIAR_SHARE / (1.0 - LIAR_SHARE))]
    ]
    moved = [with_votes(model, some, 0.0, np.inf) for some in (votes, votes + lies)]
    before, honest, lied = (_predicted(one, scored) for one in (model, *moved))
    own, heard = (float(chosen_scores(p, scored.scores).mean()) for p in (before, honest))
    errors = [np.nanmean((_apart(p) - _apart(scored.scores)) ** 2) for p in (honest, before)]
    return (
        own,
        heard,
        heard - own,
        float(errors[0] / errors[1]),
        float(np.abs(lied - honest).mean(axis=0).max()),
    )


def _apart(scores: F64) -> F64:
    """[N, M] by how much each model is above the mean of all on a prompt."""
    return np.asarray(scores - np.nanmean(scores, axis=1, keepdims=True))


def _votes(model: QualityModel, asked: Scored, keys: int, random: np.random.Generator) -> list[Vote]:
    """One vote for each prompt, on the answer of the model that dispatch drew."""
    votes = []
    for i, features in enumerate(asked.features):
        known = np.isfinite(asked.scores[i])
        share = masked_softmax(BETA * model.predict_all(features)[0], known)
        share = (1.0 - EPSILON) * share + EPSILON * known / known.sum()
        chosen = int(random.choice(len(share), p=share / share.sum()))
        score, key = float(asked.scores[i, chosen]), f"k{random.integers(keys)}"
        votes.append(Vote(key, asked.models[chosen], score, pack(features), float(share[chosen])))
    return votes


def _predicted(model: QualityModel, data: Scored) -> F64:
    return np.array([model.predict_all(prompt)[0] for prompt in data.features])
