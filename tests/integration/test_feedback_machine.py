"""A state machine over chat, votes, repeats, forgeries, other keys, restarts: one effect each, none lost."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from deployments.keys.watch import KeyWatch
from deployments.records.records import OutcomeRecord
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.outcome import Outcome, Status
from serve_app.config import IngressConfig
from serve_app.ingress import Ingress
from serve_app.routes.feedback import BROWSER_METRIC
from tests.deployments.fake_endpoint import FakeEndpoint, card, right, warm

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

KEYS = {"ann": "fs-key-of-ann-0123456789", "bob": "fs-key-of-bob-0123456789"}
METRICS = st.sampled_from(["quality", "speed", "tone"])
SCORES = st.sampled_from([0.0, 0.25, 1.0])
PEOPLE = st.sampled_from(sorted(KEYS))


class FeedbackMachine(RuleBasedStateMachine):
    """The real endpoint and the real table in one process; `votes` is what must be in the store."""

    decisions = Bundle("decisions")  # (decision id, owner, token)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.votes: dict[tuple[str, str], tuple[float, str | None]] = {}
        self.cancelled: set[str] = set()

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 120.0))

    @initialize()
    def begin(self) -> None:
        home = Path(self.folder.name)
        entries = "".join(f"- name: {name}\n  key: {key}\n" for name, key in KEYS.items())
        (home / "keys.yaml").touch(0o600)
        (home / "keys.yaml").write_text(f"keys:\n{entries}")
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("FASTSERVE_HOME", str(home))
        self.patch.delenv("FASTSERVE_API_KEY", raising=False)
        self.upstream = FakeEndpoint(right, open_to_all=True)
        self.do(self.upstream.__aenter__())
        self.do(self._start())

    async def _start(self) -> None:
        home = Path(self.folder.name)
        watch = KeyWatch(home / "keys.yaml", home / "key", environ={})
        self.table = Table(Store(f"sqlite:///{home}/store.sqlite3"), key_watch=watch)
        await self.table.register_model(card("good"))
        self.pushing = asyncio.create_task(self._push())
        self.ingress = Ingress(IngressConfig(), self.table, "ingress-0")
        self.ingress.reconfigure({})
        await self.ingress.start()
        transport = httpx.ASGITransport(self.ingress.app())
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def _push(self) -> None:
        while True:
            await self.table.push_replica(warm("good", url=self.upstream.url), [])
            await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        await self.client.aclose()
        await self.ingress.stop()
        self.pushing.cancel()
        await self.table.close()

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.do(self._stop())
            self.do(self.upstream.__aexit__())
            self.patch.undo()
        self.loop.close()
        self.folder.cleanup()

    def vote(
        self, body: dict[str, Any], person: str | None = None, token: str | None = None
    ) -> httpx.Response:
        headers = {} if not person else {"authorization": f"Bearer {KEYS[person]}"}
        headers |= {} if token is None else {"x-fastserve-feedback-token": token}
        response: httpx.Response = self.do(self.client.post("/v1/feedback", json=body, headers=headers))
        return response

    @rule(target=decisions, person=PEOPLE, n=st.integers(0, 50))
    def chat(self, person: str, n: int) -> tuple[str, str, str]:
        body = {"model": "auto", "messages": [{"role": "user", "content": f"{n}+1?"}], "stream": True}
        headers = {"authorization": f"Bearer {KEYS[person]}"}
        response = self.do(self.client.post("/v1/chat/completions", json=body, headers=headers))
        assert response.status_code == 200, response.text
        self.do(self.ingress.view.outbox.flush())
        return (
            response.headers["x-fastserve-decision-id"],
            person,
            response.headers["x-fastserve-feedback-token"],
        )

    @rule(target=decisions, person=PEOPLE, n=st.integers(0, 10**9))
    def chat_that_is_cancelled(self, person: str, n: int) -> tuple[str, str, str]:
        """A cancelled request's records, as the ingress writes them when the client leaves."""
        decision_id = self.chat(person, 1)[0]
        pairs = self.do(self.table.transitions(0.0, 100_000))
        decision = next(d for d, _ in pairs if d.decision_id == decision_id)
        gone = structs.replace(decision, decision_id=f"{decision_id}.gone{n}.{len(pairs)}")
        outcome = OutcomeRecord(gone.decision_id, gone.created_s, "good", "good-0", Outcome(Status.CANCELLED))
        self.do(self.table.report_ingress("ingress-1", len(pairs), {}, [gone], [outcome]))
        self.cancelled.add(gone.decision_id)
        tokens = self.ingress.endpoint.feedback_tokens
        assert tokens is not None
        return gone.decision_id, person, tokens.issue(gone.decision_id, gone.key_id)

    def expect(self, identity: tuple[str, str], value: tuple[float, str | None]) -> int:
        """The status a vote must get; takes it into the model where it counts."""
        if identity[0] in self.cancelled:
            return 409
        before = self.votes.setdefault(identity, value)
        return 200 if before == value else 409

    @rule(decision=decisions, metric=METRICS, score=SCORES)
    def vote_by_key(self, decision: tuple[str, str, str], metric: str, score: float) -> None:
        decision_id, person, _ = decision
        expected = self.expect((decision_id, metric), (score, None))
        response = self.vote({"decision_id": decision_id, "metric": metric, "score": score}, person)
        assert response.status_code == expected, response.text

    @rule(decision=decisions, metric=METRICS, score=SCORES)
    def vote_by_token(self, decision: tuple[str, str, str], metric: str, score: float) -> None:
        decision_id, _, token = decision
        expected = self.expect((decision_id, BROWSER_METRIC), (score, metric))
        body = {"decision_id": decision_id, "metric": metric, "score": score}
        response = self.vote(body, token=token)
        assert response.status_code == expected, response.text

    @rule(decision=decisions, score=SCORES)
    def replay(self, decision: tuple[str, str, str], score: float) -> None:
        decision_id, person, _ = decision
        body = {"decision_id": decision_id, "metric": "quality", "score": score}
        expected = self.expect((decision_id, "quality"), (score, None))
        assert {self.vote(body, person).status_code for _ in range(3)} == {expected}

    @rule(decision=decisions, score=SCORES)
    def vote_with_the_other_key(self, decision: tuple[str, str, str], score: float) -> None:
        decision_id, person, _ = decision
        other = next(name for name in KEYS if name != person)
        response = self.vote({"decision_id": decision_id, "metric": "quality", "score": score}, other)
        assert response.status_code == 404, response.text

    @rule(person=PEOPLE, score=SCORES)
    def vote_on_nothing(self, person: str, score: float) -> None:
        body = {"decision_id": "no-such-decision", "metric": "quality", "score": score}
        assert self.vote(body, person).status_code == 404
        assert self.vote(body).status_code == 401

    @rule(first=decisions, second=decisions, place=st.integers(0, 10**6))
    def forge(self, first: tuple[str, str, str], second: tuple[str, str, str], place: int) -> None:
        token = first[2]
        place %= len(token)
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        body = {"decision_id": first[0], "score": 1}
        assert self.vote(body, token=changed).status_code == 401
        if first[0] != second[0]:
            assert self.vote(body, token=second[2]).status_code == 401

    @rule(decision=decisions, score=st.sampled_from([-1, 1.5, "1", True, None, []]))
    def vote_with_a_bad_score(self, decision: tuple[str, str, str], score: object) -> None:
        decision_id, person, _ = decision
        response = self.vote({"decision_id": decision_id, "metric": "quality", "score": score}, person)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "score"

    @rule()
    def restart(self) -> None:
        self.do(self._stop())
        self.do(self._start())

    @invariant()
    def the_store_holds_exactly_the_votes_that_count(self) -> None:
        if hasattr(self, "client"):
            found = self.do(self.table.feedback_records(0.0))
            assert len(found) == len(self.votes)
            assert {(r.decision_id, r.metric): (r.score, r.detail) for r in found} == self.votes


FeedbackMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFeedback = FeedbackMachine.TestCase
