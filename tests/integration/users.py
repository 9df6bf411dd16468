"""Callers who ask `auto` and vote on each answer, and what the log must hold of them afterwards."""

import time
from collections import Counter
from collections.abc import Sequence

import httpx

from policies.decider import Decider
from tests.integration.running import Callers, Cluster

CALLERS = 3
PAUSE_S = 0.15


class Users(Callers):
    """They ask `auto` and vote until the vote is taken: `score` on what a learned policy decided, else 1."""

    def __init__(self, cluster: Cluster, questions: Sequence[str]) -> None:
        super().__init__(cluster, CALLERS)
        self.score = 1.0
        self.answered: list[str] = []  # decision ids
        self.policies: list[str] = []
        self.voted: list[str] = []
        self.failed: list[str] = []
        self._questions = questions
        self._began_s = time.time()

    def deciding(self) -> set[str]:
        """Policies behind the last answers."""
        return {Decider.parse(text).name for text in self.policies[-2 * CALLERS :]}

    def require_counted_once(self, timeout_s: float) -> None:
        """Every answer and vote that was acknowledged is in the log, each vote once."""

        def stored() -> set[str]:
            pairs = self._cluster.table("transitions", self._began_s, 100_000)
            return {decision.decision_id for decision, outcome in pairs if outcome is not None}

        self._cluster.wait_for(lambda: set(self.answered) <= stored(), timeout_s)
        votes = Counter(one.decision_id for one in self._cluster.table("feedback_records", self._began_s))
        assert {votes[decision] for decision in self.voted} == {1}

    def _ask(self, client: httpx.Client, turn: int) -> None:
        time.sleep(PAUSE_S)
        question = self._questions[turn % len(self._questions)]
        body = {"model": "auto", "messages": [{"role": "user", "content": question}], "max_tokens": 12}
        try:
            answer = client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if answer.status_code != 200:
            self.failed.append(f"{answer.status_code} {answer.text}")
            return
        decision = answer.headers["x-fastserve-decision-id"]
        self.answered.append(decision)
        self.policies.append(answer.headers["x-fastserve-policy"])
        is_learned = Decider.parse(self.policies[-1]).version is not None
        self._vote(client, decision, self.score if is_learned else 1.0)

    def _vote(self, client: httpx.Client, decision: str, score: float) -> None:
        """Again until it is taken: while the table is away the answer is 503, send it again."""
        for _ in range(60):
            answer = client.post("/v1/feedback", json={"decision_id": decision, "score": score})
            if answer.status_code == 200:
                self.voted.append(decision)
                return
            time.sleep(0.5)
        self.failed.append(f"vote {answer.status_code} {answer.text}")
