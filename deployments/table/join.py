"""Joins what the ingress and the engine saw of one request, whichever comes first."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Generic, TypeVar

from deployments.records.records import EngineRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard
from policies.outcome import Status

T = TypeVar("T")

KEPT: Final = 20_000
KEPT_S: Final = 60.0
REPEATED: Final = "ingress_repeated"  # code of a try that was made again elsewhere: its tokens are no one's
_ABORTED: Final = "abort"  # how an engine ends a try that another one outran, or that failed


class _Recent(Generic[T]):
    """Values by decision id, the oldest dropped when there are too many or they are too old."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def put(self, key: str, value: T, now_s: float) -> None:
        self._values[key] = (now_s, value)
        while self._values:
            added_s, _ = next(iter(self._values.values()))
            if len(self._values) <= KEPT and now_s - added_s <= KEPT_S:
                break
            self._values.popitem(last=False)

    def before(self, added_s: float) -> dict[str, tuple[float, T]]:
        """Those put before that time, each with its own."""
        return {key: pair for key, pair in self._values.items() if pair[0] < added_s}

    def holds(self, key: str) -> bool:
        """Whether there is one."""
        return key in self._values

    def take(self, key: str) -> T | None:
        found = self._values.pop(key, None)
        return None if found is None else found[1]


class EngineJoin:
    """Waits a minute at most for the other half of each request."""

    def __init__(self, cards: Mapping[str, ModelCard]) -> None:
        self._cards = cards
        self._engines: _Recent[EngineRecord] = _Recent()
        self._outcomes: _Recent[OutcomeRecord] = _Recent()

    def outcome(self, record: OutcomeRecord, now_s: float) -> OutcomeRecord:
        """The outcome, joined if its engine was first."""
        engine = self._engines.take(record.decision_id)
        return record if engine is None or _is_another_try(record, engine) else self._merge(record, engine)

    def counted(self, record: OutcomeRecord, now_s: float) -> None:
        """The outcome is stored; an engine's record may still come."""
        if record.outcome.queue_s is None:
            self._outcomes.put(record.decision_id, record, now_s)

    def engine(self, record: EngineRecord, now_s: float) -> tuple[OutcomeRecord, OutcomeRecord] | None:
        """The stored outcome before and after the join, if it came first and the join changes it."""
        before = self._outcomes.take(record.decision_id)
        if before is None:
            if record.finish_reason != _ABORTED or not self._engines.holds(record.decision_id):
                self._engines.put(record.decision_id, record, now_s)
            return None
        if _is_another_try(before, record):
            self.counted(before, now_s)
            return None
        after = self._merge(before, record)
        return None if after == before else (before, after)

    def waiting(self, before_s: float) -> dict[str, tuple[float, EngineRecord]]:
        """Engines' records that came before that time and have met no outcome, each with its time."""
        return self._engines.before(before_s)

    def _merge(self, record: OutcomeRecord, engine: EngineRecord) -> OutcomeRecord:
        """Queue time from the engine; tokens, their cost and TPOT where the ingress could not know them."""
        outcome = record.outcome
        prompt, output = outcome.prompt_tokens, outcome.output_tokens
        cost = outcome.cost_usd
        if prompt == output == 0 and outcome.error_code != REPEATED:
            prompt, output = engine.prompt_tokens, engine.output_tokens
            card = self._cards.get(record.model)
            if card is not None:
                cost += card.cost_usd(prompt, output)
        joined = replace(
            outcome,
            queue_s=outcome.queue_s if engine.queue_s is None else engine.queue_s,
            tpot_s=engine.tpot_s if outcome.tpot_s is None else outcome.tpot_s,
            prompt_tokens=prompt,
            output_tokens=output,
            cost_usd=cost,
        )
        return replace(record, outcome=joined)


def _is_another_try(record: OutcomeRecord, engine: EngineRecord) -> bool:
    """Whether an engine's record is not of the try that answered the request."""
    return engine.finish_reason == _ABORTED and record.outcome.status is Status.OK
