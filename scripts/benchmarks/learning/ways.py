"""Ways of choosing a model, compared item by item on answers of every model and of `auto` to each item.

Against `auto` as it answered stand every single model, the best one by the evaluation, the best one of each
task (the task label is told to it alone), and the plain formula, which knows one accuracy a model, on the
observations that `auto` logged.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deployments.learning.live_evidence import normalised_reward
from deployments.records.records import DecisionRecord, EvaluationRecord
from deployments.table.api import TableApi
from policies.arrays import F64
from policies.observation import MODEL_COLUMN, Observation
from policies.policy import FormulaPolicy
from scripts.benchmarks.learning.traffic import Asked

PAGE = 2_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """`table` [N][1 + M] holds the answers of `auto` and of each of `models` to N items."""

    models: Sequence[str]
    callers: Mapping[str, Sequence[float]]  # [C] by profile
    evaluations: Sequence[EvaluationRecord]
    decisions: Mapping[str, DecisionRecord]
    table: Sequence[Sequence[Asked]]


def best_by_task(
    records: Sequence[EvaluationRecord], callers: Mapping[str, Sequence[float]]
) -> dict[str, str]:
    """The model of the highest mean utility in the evaluation, by task."""
    earned: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        caller = callers[record.profile]
        worth = normalised_reward(record.score, record.e2e_s or 0.0, 0.0, caller, 0.0, caller[3])
        earned[record.task][record.model].append(worth)
    return {
        task: max(sorted(models), key=lambda model: float(np.mean(models[model])))
        for task, models in earned.items()
    }


async def decisions_since(table: TableApi, after_s: float) -> dict[str, DecisionRecord]:
    """The logged decisions by id."""
    found: dict[str, DecisionRecord] = {}
    while True:
        page = await table.transitions(after_s, PAGE)
        found |= {record.decision_id: record for record, _ in page}
        if len(page) < PAGE:
            return found
        after_s = page[-1][0].created_s


def plain(record: DecisionRecord, accuracy: Mapping[str, float]) -> F64:
    """[M] what the formula would choose with one `accuracy` a model in place of the predicted ones."""
    rows = np.array(record.rows)
    rows[:, MODEL_COLUMN["accuracy"]] = [accuracy[model] for model in record.models]
    observation = Observation(
        record.models, rows, np.array(record.prompt), np.array(record.caller), np.array(record.mask)
    )
    return FormulaPolicy().probabilities(observation)


def judged(known: Comparison) -> dict[str, F64]:
    """[N, 3] by way: utility, score and end-to-end seconds of each item."""
    models, table = list(known.models), known.table
    values = np.array([[(a.utility, a.score, a.e2e_s) for a in row] for row in table])  # [N, 1 + M, 3]
    by_task = best_by_task(known.evaluations, known.callers)
    accuracy = {m: float(np.mean([r.score for r in known.evaluations if r.model == m])) for m in models}
    labelled = [1 + models.index(by_task[row[0].task]) for row in table]
    choice = np.array([plain(known.decisions[row[0].decision_id], accuracy) for row in table])  # [N, M]
    items = np.arange(len(table))
    return {
        "auto": values[:, 0],
        **{model: values[:, 1 + i] for i, model in enumerate(models)},
        "task label": values[items, labelled],
        "plain formula": np.einsum("nm,nmk->nk", choice, values[:, 1:]),
        "oracle": values[items, 1 + values[:, 1:, 0].argmax(axis=1)],
    }
