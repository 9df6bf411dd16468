"""What those who may ask and vote can gain by it, and what bounds it: five attacks on learning.

Three models and three kinds of prompts in a world of known quality. The attacker wants the dear model to
answer everybody (`coalition`, `judge`, `drift`) or its own prompts (`gadget`), or to drown the votes of
others (`storm`). Each is measured against the same code with its bound taken away ("before").
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.key_guard import LEAST_ALARM_SHARE
from deployments.dispatch.request import DispatchRequest, Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.learning import log_fits
from deployments.learning.quality_fit import fit_quality, with_feedback
from deployments.records.records import DecisionRecord, EvaluationRecord, FeedbackRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard, ModelRow, Quantiles, ReplicaRow, ReplicaState, Snapshot
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.latency.model import LatencyModel
from policies.outcome import Outcome, Status
from policies.prompt.features import PromptFeatures, extract, pack
from policies.quality import votes as voting
from policies.quality.model import QualityModel
from policies.quality.votes import KEY_CAP, Vote, with_votes
from scripts.benchmarks.report import Bar, Report, bar
from serve_app.console.text_table import print_table

MODELS: Final = ("cheap", "dear", "middle")
USD: Final = {"cheap": 0.2, "dear": 20.0, "middle": 0.3}  # per million tokens; one is expensive to the guard
WORDS: Final = {
    "facts": "capital river country city king year war island mountain border flag people",
    "maths": "solve equation integral sum prove number matrix root angle derivative limit prime",
    "code": "python function list loop class error string sort file parse regex compile",
}
QUALITY: Final = {  # by kind, in the order of MODELS: the truth, which the dear model does not lead on facts
    "facts": (0.85, 0.86, 0.85),
    "maths": (0.30, 0.80, 0.60),
    "code": (0.55, 0.75, 0.72),
}
TOKENS: Final = 200
COALITIONS: Final = (1, 5, 20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--items", type=int, default=600, help="that every model was evaluated on (600)")
    parser.add_argument("--users", type=int, default=100, help="honest keys (100)")
    parser.add_argument("--seed", type=int, default=0)


def text_of(kind: str, draws: random.Random) -> str:
    """A prompt of one kind."""
    return " ".join(draws.choices(WORDS[kind].split(), k=12))


class World:
    """The pool, its evaluation, honest users' votes, and prompts to judge by."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.draws = random.Random(args.seed)
        self.evaluations = [
            EvaluationRecord(
                "suite", "1", f"{n}", kind, "", model, "1", self.score(kind, model), features=features
            )
            for n in range(args.items)
            for kind, features in [self._prompt()]
            for model in MODELS
        ]
        self.fitted = fit_quality(self.evaluations)
        self.honest = [
            self.vote(f"user-{n % args.users}", kind, features, model, self.score(kind, model))
            for n in range(30 * args.users)
            for kind, features in [self._prompt()]
            for model in [self.draws.choice(MODELS)]
        ]
        self.judged = [(kind, extract(text_of(kind, self.draws))) for kind in WORDS for _ in range(100)]

    def _prompt(self) -> tuple[str, bytes]:
        kind = self.draws.choice(tuple(WORDS))
        return kind, pack(extract(text_of(kind, self.draws)))

    def score(self, kind: str, model: str) -> float:
        """A graded answer: right or wrong."""
        return float(self.draws.random() < QUALITY[kind][MODELS.index(model)])

    def vote(self, key: str, kind: str, features: bytes, model: str, score: float) -> Vote:
        """One key's word on one answer, drawn with a third's chance."""
        return Vote(key, model, score, features, 1.0 / len(MODELS), 0.0)

    def lies(self, keys: int, each: int) -> list[Vote]:
        """Votes of a coalition: the dear model is perfect, all others are useless."""
        return [
            self.vote(f"liar-{n % keys}", kind, features, model, float(model == "dear"))
            for n in range(keys * each)
            for kind, features in [self._prompt()]
            for model in [self.draws.choice(MODELS)]
        ]

    def bounded(self, votes: Sequence[Vote]) -> QualityModel:
        """What the learner makes of votes."""
        return with_feedback(self.fitted, self.evaluations, votes, 0.0, np.inf)

    def unbounded(self, votes: Sequence[Vote]) -> QualityModel:
        """The same where every vote counts alike and nothing holds them to the evaluation."""
        with _replaced(voting, "_KEY_ANSWERS", 1e9):
            return with_votes(self.fitted, votes, 0.0, np.inf)

    def effect(self, model: QualityModel) -> dict[str, float]:
        """What a quality model does to honest users: the dear model's share, mean true score, error."""
        dear, truth, error = 0, 0.0, 0.0
        for kind, features in self.judged:
            mean = predicted(model, features)
            chosen = int(np.argmax(mean - [0.002 * USD[name] for name in MODELS]))
            dear += MODELS[chosen] == "dear"
            truth += QUALITY[kind][chosen]
            error += float(np.abs(mean - QUALITY[kind]).mean())
        count = len(self.judged)
        return {"dear": dear / count, "score": truth / count, "error": error / count}

    def moved(self, before: QualityModel, after: QualityModel) -> float:
        """By how much the prediction for an honest prompt changes at most, over kinds and models, in the mean
        of a kind."""
        moves = [np.abs(self._means(after, kind) - self._means(before, kind)).max() for kind in WORDS]
        return float(max(moves))

    def _means(self, model: QualityModel, kind: str) -> Any:
        return np.mean([predicted(model, f) for k, f in self.judged if k == kind], axis=0)


def predicted(model: QualityModel, features: PromptFeatures) -> Any:
    """[M] expected scores in the order of MODELS."""
    return model.predict(features, MODELS)[0]


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


Found = tuple[dict[str, Any], list[Bar]]


def coalition(world: World) -> Found:
    """Keys that agree to praise one model; each votes three hundred times."""
    honest = world.bounded(world.honest)
    scores = {0: world.effect(honest)["score"]}
    rows: dict[str, Any] = {"nobody": {"after": world.effect(honest)}}
    bars: list[Bar] = []
    for keys in COALITIONS:
        votes = [*world.honest, *world.lies(keys, 300)]
        after, before = world.bounded(votes), world.unbounded(votes)
        moved = world.moved(honest, after)
        rows[f"{keys} keys"] = {
            "before": world.effect(before),
            "after": world.effect(after),
            "moved_before": world.moved(honest, before),
            "moved": moved,
        }
        scores[keys] = world.effect(after)["score"]
        limit = min(keys * KEY_CAP, 1.0)
        bars.append(bar(f"coalition of {keys}: moves a prediction by", moved, "<=", limit))
    lost = scores[0] - scores[5]
    bars.append(bar("coalition of 5: true score lost by honest users", lost, "<=", 0.02))
    return rows, bars


def judge(world: World) -> Found:
    """One key that votes on as many answers as all others together, always the opposite of the truth."""
    honest = world.bounded(world.honest)
    lies = [
        Vote("judge", vote.model, 1.0 - vote.score, vote.features, vote.propensity) for vote in world.honest
    ]
    votes = [*world.honest, *lies]
    after, before = world.bounded(votes), world.unbounded(votes)
    effects = {
        name: world.effect(one) for name, one in {"nobody": honest, "before": before, "after": after}.items()
    }
    moved = world.moved(honest, after)
    lost = effects["nobody"]["score"] - effects["after"]["score"]
    return {**effects, "moved_before": world.moved(honest, before), "moved": moved}, [
        bar("a lying judge: moves a prediction by", moved, "<=", KEY_CAP),
        bar("a lying judge: true score lost by honest users", lost, "<=", 0.01),
    ]


def storm(world: World) -> Found:
    """One key votes fifty times on each of its decisions, and on those of others."""

    async def run() -> Counter[str]:
        verdicts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            table = Table(Store(f"sqlite:///{folder}/store.sqlite3"))
            decisions = [_decision(f"{key}-{n}", key) for key in ("storm", "other") for n in range(40)]
            outcomes = [_outcome(one) for one in decisions]
            await table.report_ingress("i", 1, {}, decisions, outcomes)
            for n in range(2_000):
                whose = "storm" if n % 2 else "other"
                score = (n % 11) / 10
                record = FeedbackRecord(f"{whose}-{n // 2 % 40}", "storm", "quality", score, time.time())
                verdicts[f"{whose}: {await _vote(table, record)}"] += 1
            verdicts["stored"] = len(await table.feedback_records(0.0))
            await table.close()
        return verdicts

    verdicts = asyncio.run(run())
    return dict(verdicts), [
        bar("storm: votes that count, of 1,000 on 40 own answers", verdicts["storm: new"], "<=", 40),
        bar("storm: votes that count, of 1,000 on the answers of others", verdicts["other: new"], "<=", 0),
        bar("storm: votes stored", verdicts["stored"], "<=", 40),
    ]


async def _vote(table: Table, record: FeedbackRecord) -> str:
    """A vote on what is not known is waited for a moment, which takes no part in this."""
    from deployments.table import log

    with _replaced(log, "KNOWN_WITHIN_S", 0.0):
        return await table.feedback(record)


def _decision(name: str, key: str, **fields: Any) -> DecisionRecord:
    return DecisionRecord(name, time.time(), key, "auto", "", "cheap", "priced", 1.0, 0.0, 1, **fields)


def _outcome(decision: DecisionRecord) -> OutcomeRecord:
    outcome = Outcome(Status.OK, 0.1, 0.01, 0.5, output_tokens=7)
    return OutcomeRecord(decision.decision_id, time.time(), "cheap", "r", outcome)


class _View:
    """A snapshot that does not change."""

    def __init__(self) -> None:
        rows = {name: _row(name) for name in MODELS}
        self.snapshot = Snapshot("boot", 1, 1_000.0, rows)

    def age_s(self) -> float:
        return 0.0

    def in_flight(self, model: str) -> int:
        return 0


def _row(name: str) -> ModelRow:
    usd, even = USD[name], Quantiles(0.02, 0.02, 0.02, 0.02, 50)
    card = ModelCard(name, "simulated", "", 8192, prompt_usd_per_mtok=usd, completion_usd_per_mtok=usd)
    replica = ReplicaRow(name, name, "", ReplicaState.WARM, slots=64, pushed_at_s=1_000.0)
    times = Quantiles(0.1, 0.2, 0.3, 0.1, 50)
    lengths = Quantiles(TOKENS, TOKENS, TOKENS, TOKENS, 50)
    return ModelRow(card, (replica,), ttft_s=times, tpot_s=even, output_tokens=lengths, requests=1_000)


def gadget(world: World) -> Found:
    """A key that puts words of hard prompts before its easy ones, after a day of honest use.

    The alarm compares its share of expensive models with its own before: above a third only the budget binds.
    """
    rows = {"before": _gadget(world, guarded=False), "after": _gadget(world, guarded=True)}
    found = rows["after"]
    limit = LEAST_ALARM_SHARE
    return rows, [
        bar("gadget: requests until the alarm", found["until_alarm"], "<=", 200),
        bar("gadget: share of the dear model from the alarm on", found["after_alarm"], "<=", limit),
        bar("gadget: dollars in a day over its budget and one request", found["over_budget_usd"], "<=", 0.0),
    ]


def _gadget(world: World, *, guarded: bool) -> dict[str, float]:
    factor = 3.0 if guarded else 1e9
    budget = 0.5
    settings = {
        "epsilon": 0.0,
        "weights": {"accuracy": 1.0, "latency": 0.0, "cost": 0.2},
        "guard": {"share_factor": factor, "key_usd_per_day": budget if guarded else 0.0},
    }
    now_s, draws = [0.0], random.Random(1)
    made = Dispatcher(_View(), DispatchSettings.model_validate(settings), wall=lambda: now_s[0])
    made.host.quality = world.fitted
    honest, attack = list[tuple[bool, str]](), list[tuple[bool, str]]()
    for n in range(2_400):
        now_s[0] = n * 60.0
        kind = "maths" if n % 20 == 0 else "facts"
        for key in ("attacker", "user"):
            evil = key == "attacker" and n >= 1_200
            text = text_of("maths", draws) + " " + text_of("maths", draws) if evil else text_of(kind, draws)
            model, policy = _send(made, f"{key}-{n}", key, text, now_s[0])
            if key == "attacker":
                (attack if evil else honest).append((model == "dear", policy))
    first = next((i for i, (_, policy) in enumerate(attack) if "alarm" in policy), len(attack))
    later = [dear for dear, _ in attack[first:]] or [dear for dear, _ in attack]
    state = made.settlement.guard._keys["attacker"]
    return {
        "honest": float(np.mean([dear for dear, _ in honest])),
        "attacking": float(np.mean([dear for dear, _ in attack])),
        "until_alarm": float(first),
        "after_alarm": float(np.mean(later)),
        "spent_usd_last_day": state.spent_usd,
        "over_budget_usd": max(state.spent_usd - budget - _beyond_usd(), 0.0),
    }


def _beyond_usd() -> float:
    """What a key may cost beyond its budget: one request of the dear model, then a day of the cheap one."""
    return (USD["dear"] + 1_440 * USD["cheap"]) * 2 * TOKENS * 1e-6


def _send(made: Dispatcher, name: str, key: str, text: str, now_s: float) -> tuple[str, str]:
    request = DispatchRequest(name, "auto", Prompt(text, max_tokens=TOKENS), key_id=key)
    dispatch = made.dispatch(request)
    model = dispatch.decision.model
    outcome = Outcome(Status.OK, e2e_s=1.0, output_tokens=TOKENS, cost_usd=USD[model] * TOKENS * 1e-6)
    made.settlement.settle(dispatch, OutcomeRecord(name, now_s, model, "r", outcome), now_s)
    return model, dispatch.record.policy


def drift(world: World) -> Found:
    """A key with four fifths of the traffic has the cheap model write endless answers to honest-looking
    prompts, so that it looks slow and dear for everybody."""
    made = Dispatcher(_View(), DispatchSettings(epsilon=0.0))
    quiet, attacked = _log(made, world, 0), _log(made, world, 8_000)
    honest = log_fits.fit_from_log(quiet, LatencyModel({}), "1")
    after = log_fits.fit_from_log(attacked, LatencyModel({}), "2")
    with _replaced(log_fits, "KEY_SHARE", 1.0):
        before = log_fits.fit_from_log(attacked, LatencyModel({}), "3")
    lengths = {
        name: one.parameters["cheap"].mean_output_tokens
        for name, one in {"nobody": honest, "before": before, "after": after}.items()
    }
    limit = 1.0 + log_fits.KEY_SHARE * (_ENDLESS / _SHORT - 1.0) + 0.05
    ratio = lengths["after"] / lengths["nobody"]
    return lengths, [bar("drift: expected length of an answer, times", ratio, "<=", limit)]


_SHORT: Final = 60
_ENDLESS: Final = 600


def _log(made: Dispatcher, world: World, floods: int) -> list[tuple[DecisionRecord, OutcomeRecord | None]]:
    """What honest users asked of the cheap model, with so many requests of one key between."""
    draws, found = random.Random(2), list[tuple[DecisionRecord, OutcomeRecord | None]]()
    keys = [*(f"user-{n % 50}" for n in range(2_000)), *("flood" for _ in range(floods))]
    draws.shuffle(keys)
    for n, key in enumerate(keys):
        text = text_of(draws.choice(tuple(WORDS)), draws)
        dispatch = made.dispatch(DispatchRequest(f"d-{n}", "cheap", Prompt(text), key_id=key))
        tokens = _ENDLESS if key == "flood" else draws.randint(_SHORT // 2, _SHORT * 3 // 2)
        outcome = Outcome(Status.OK, 0.1, 0.02, 0.1 + 0.02 * tokens, prompt_tokens=20, output_tokens=tokens)
        found.append((dispatch.record, OutcomeRecord(f"d-{n}", float(n), "cheap", "r", outcome)))
    return found


def run(args: argparse.Namespace) -> Report:
    """Every attack in the same world."""
    world = World(args)
    results: dict[str, Any] = {}
    bars: list[Bar] = []
    for attack in tqdm((coalition, judge, storm, gadget, drift), desc="attacks", unit="attack"):
        found, judged = attack(world)
        results[attack.__name__] = {"what": (attack.__doc__ or "").strip(), **found}
        bars += judged
    rows = [
        (name, str({k: v for k, v in found.items() if k != "what"})[:160]) for name, found in results.items()
    ]
    print_table(("attack", "found"), rows, title="attacks")
    return Report("attacks", tuple(bars), results)
