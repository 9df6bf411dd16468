"""Requests whose ingress replica died before it could say what came of them: their engines know."""

from collections.abc import Container, Mapping
from typing import Final

from deployments.logger import get_logger
from deployments.records.leases import accounts_of
from deployments.records.records import DecisionRecord, EngineRecord, OutcomeRecord
from deployments.records.snapshot import ModelCard
from deployments.table.join import REPEATED, EngineJoin
from deployments.table.store import ledger
from deployments.table.store.store import Store
from policies.outcome import Outcome, Status

logger = get_logger(__name__)

ORPHAN_S: Final = (
    15.0  # an engine's record waits so long for the outcome of an ingress replica that is silent
)
LOST: Final = "ingress_lost"


class Orphans:
    """Finds them among the engines' records that no outcome has met.

    All that was made is charged, but for a request that HAProxy has repeated: its caller pays for the answer.
    """

    def __init__(self, join: EngineJoin, cards: Mapping[str, ModelCard]) -> None:
        self._join, self._cards = join, cards
        self._settled: set[str] = set()  # ids that are known to be no orphans

    async def ended(
        self, store: Store, alive: Container[str], now_s: float
    ) -> dict[str, list[OutcomeRecord]]:
        """Outcomes by ingress replica of requests that none of those `alive` will report."""
        waiting = self._join.waiting(now_s - ORPHAN_S)
        self._settled &= waiting.keys()
        ids = [decision_id for decision_id in waiting if decision_id not in self._settled]
        if not ids:
            return {}
        found: dict[str, list[OutcomeRecord]] = {}
        log, repeated = await store.read(
            lambda connection: (
                ledger.read_transitions_of(connection, ids),
                ledger.repeated(connection, ids),
            )
        )
        known = {decision.decision_id: decision for decision, outcome in log if outcome is None}
        self._settled.update(set(ids) - known.keys())
        for decision_id, decision in known.items():
            if decision.ingress not in alive:
                ended_s, engine = waiting[decision_id]
                found.setdefault(decision.ingress, []).append(
                    self._outcome(decision, engine, ended_s, decision_id in repeated)
                )
        if found:
            logger.warning("Ended for lost ingress replicas: %s.", {n: len(o) for n, o in found.items()})
        return found

    def _outcome(
        self, decision: DecisionRecord, engine: EngineRecord, ended_s: float, is_repeated: bool
    ) -> OutcomeRecord:
        card = self._cards.get(decision.model)
        prompt, output = (0, 0) if is_repeated else (engine.prompt_tokens, engine.output_tokens)
        outcome = Outcome(
            Status.CANCELLED,
            e2e_s=engine.e2e_s,
            queue_s=engine.queue_s,
            prompt_tokens=prompt,
            output_tokens=output,
            cost_usd=0.0 if card is None else card.cost_usd(prompt, output),
            error_code=REPEATED if is_repeated else LOST,
        )
        accounts = accounts_of(decision.key_id, decision.team, decision.profile)
        return OutcomeRecord(decision.decision_id, ended_s, decision.model, "", outcome, accounts=accounts)
