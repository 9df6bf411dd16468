"""A second try beside one that is late, in virtual time: one answer, one bill, every slot given back."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest

from deployments.metrics.meter import MemoryMeter
from policies.observation import TTFT_S
from policies.outcome import Status
from serve_app.config import IngressSettings
from serve_app.http.errors import ApiError
from serve_app.metrics import IngressMetrics
from serve_app.upstream.ejection import FAILURES, Ejections
from serve_app.upstream.forward import Forwarder
from serve_app.upstream.lateness import Lateness
from serve_app.upstream.replicas import Upstreams
from tests.clock import Clock
from tests.deployments.pools import View, model, snapshot
from tests.serve_app.jobs import KEY, made_job
from tests.virtual_time import virtual_time

NEVER = float("inf")
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


def said(text):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def stream(text, after_s, rest_s=1.0):
    """A stream whose first token comes `after_s` after its head, and its end `rest_s` later."""
    return Answer((0.0, ROLE), (after_s, said(text)), (rest_s, USAGE + DONE))


def plain(text, after_s):
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    body = {"choices": [{"message": {"content": text}}], "usage": usage}
    return Answer((after_s, json.dumps(body).encode()), kind="application/json")


def failing(after_s):
    """An error in place of a token."""
    return Answer((0.0, ROLE), (after_s, b'data: {"error":{"message":"no"}}\n\n'))


class Answer:
    """What a replica says to one request: pieces, each so long after the one before; then it ends."""

    status = 200

    def __init__(self, *pieces, kind="text/event-stream", head_s=0.0):
        self.pieces, self.content_type, self.head_s = list(pieces), kind, head_s
        self.headers = {"content-type": kind}
        self.content = self
        self.is_cut = False  # by who asked, before its end

    async def head(self):
        await self._pass(self.head_s)

    async def readany(self):
        if not self.pieces:
            return b""
        after_s, piece = self.pieces.pop(0)
        await self._pass(after_s)
        return piece

    async def _pass(self, seconds):
        try:
            await asyncio.sleep(seconds) if seconds < NEVER else await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cut = True
            raise

    async def read(self):
        return b"".join([piece async for piece in self])

    async def __aiter__(self):
        while piece := await self.readany():
            yield piece

    def close(self):
        self.is_cut = self.is_cut or bool(self.pieces)


class Pool(View):
    """A model "m" with replicas, as one ingress sees them."""

    secret = "s"
    lagging = False
    ingress = "i"

    def __init__(self, replicas, **fields):
        super().__init__(snapshot(model("m", replicas=replicas, **fields)))
        self.busy = Counter()
        self.waiting = 0

    def replica_in_flight(self, replica):
        return self.busy[replica]

    def begin(self, name, replica):
        self.busy[replica] += 1

    def end(self, name, replica):
        self.busy[replica] -= 1

    def count_waiting(self, name, change):
        self.waiting += change

    def reports(self, **changes):
        """What all replicas say of themselves from now on."""
        row = self.snapshot.models["m"]
        rows = tuple(replace(one, **changes) for one in row.replicas)
        models = {"m": replace(row, replicas=rows)}
        self.snapshot = replace(self.snapshot, version=self.snapshot.version + 1, models=models)


class Replicas(Upstreams):
    """Replicas that answer as they are told, in the order in which they are asked."""

    def __init__(self, pool, answers):
        super().__init__(pool, Ejections(Clock()), Clock())
        self.answers, self.asked = answers, []

    async def post(self, row, path, body, decision_id, more=None):
        answer = self.answers[len(self.asked)]
        self.asked.append(row.replica)
        await answer.head()
        return answer


class Client:
    def __init__(self):
        self.heads, self.body = [], b""

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.heads.append(message)
        else:
            self.body += message["body"]


class Case:
    """An ingress before replicas of one model."""

    def __init__(self, *answers, replicas=2, retries=None, **fields):
        self.pool = Pool(replicas, **fields)
        self.replicas = Replicas(self.pool, list(answers))
        self.meter = MemoryMeter()
        settings = IngressSettings.model_validate({"retries": retries or {}})
        self.forwarder = Forwarder(self.pool, self.replicas, settings, IngressMetrics(self.meter))

    async def ask(self, job=None):
        """The answer to one request: what the client saw, and what became of it."""
        job, client = job or made_job(), Client()
        self.forwarder.enter(job)
        await self.forwarder.run(job, client.send)
        return client, job.result

    @property
    def is_idle(self):
        queue = self.forwarder.room._queues["m"]
        held = (queue.held, queue.waiting, sum(self.pool.busy.values()), self.pool.waiting)
        return held == (0, 0, 0, 0) and not self.forwarder.watch.attempts

    def hedges(self, result):
        return self.meter.value("fastserve_hedges", "m", result)


def limit_s(job):
    """When a stream is late of which nothing is known yet."""
    return Lateness().limit_s(("m", job.call.path, True), float(job.dispatch.observation.rows[0, TTFT_S]))


async def settled():
    """Everything that is ended has had its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


@virtual_time
async def test_an_answer_in_time_has_nothing_beside_it():
    case = Case(stream("a", 0.1))
    client, result = await case.ask()
    assert client.body == ROLE + said("a") + DONE
    assert (len(case.replicas.asked), result.attempts, result.hedges, result.hedged_tokens) == (1, 1, 0, 0)
    assert case.is_idle


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda: Answer(head_s=NEVER), id="no head"),
        pytest.param(lambda: Answer((0.0, ROLE), (NEVER, b"")), id="headers and a role, no token"),
        pytest.param(lambda: stream("a", 30.0), id="late"),
    ],
)
@virtual_time
async def test_the_second_replica_answers_for_one_that_is_late(first):
    late = first()
    case = Case(late, stream("b", 0.1))
    job = made_job()
    client, result = await case.ask(job)
    await settled()
    assert client.body == ROLE + said("b") + DONE
    assert len(client.heads) == 1
    first_replica, second_replica = case.replicas.asked
    assert first_replica != second_replica == result.replica
    assert late.is_cut
    assert (result.status, result.attempts, result.hedges, result.fallbacks) == (Status.OK, 1, 1, [])
    assert (result.prompt_tokens, result.output_tokens) == (7, 1), "the caller pays for one answer"
    assert result.hedged_tokens == job.prompt_tokens
    assert case.hedges("won") == 1
    assert case.is_idle
    assert result.first_byte_s == pytest.approx(limit_s(job) + 0.1)


@virtual_time
async def test_the_first_one_answers_where_it_comes_before_the_second():
    second = stream("b", 5.0)
    case = Case(stream("a", 1.0), second)
    client, result = await case.ask()
    await settled()
    assert client.body == ROLE + said("a") + DONE
    assert result.replica == case.replicas.asked[0]
    assert (len(case.replicas.asked), second.is_cut, result.hedges) == (2, True, 1)
    assert (result.prompt_tokens, result.output_tokens) == (7, 1)
    assert case.hedges("lost") == 1
    assert case.is_idle


@virtual_time
async def test_both_at_once_are_one_answer():
    job = made_job()
    case = Case(stream("a", 1.0), stream("b", 1.0 - limit_s(job)))
    client, result = await case.ask(job)
    await settled()
    assert client.body in (ROLE + said("a") + DONE, ROLE + said("b") + DONE)
    assert (len(client.heads), len(case.replicas.asked), result.status) == (1, 2, Status.OK)
    assert case.is_idle


@virtual_time
async def test_the_second_one_answers_where_the_first_one_fails_after_all():
    case = Case(failing(1.0), stream("b", 3.0), replicas=3)
    client, result = await case.ask()
    assert client.body == ROLE + said("b") + DONE
    assert (len(case.replicas.asked), result.replica) == (2, case.replicas.asked[1])
    assert (result.status, result.fallbacks) == (Status.OK, ["m"])
    assert case.hedges("won") == 1
    assert case.is_idle


@virtual_time
async def test_the_first_one_answers_where_the_second_one_fails():
    case = Case(stream("a", 4.0), failing(0.1), replicas=3)
    client, result = await case.ask()
    assert client.body == ROLE + said("a") + DONE
    assert (len(case.replicas.asked), result.fallbacks, result.attempts) == (2, [], 1)
    assert case.hedges("failed") == 1
    assert case.is_idle


@virtual_time
async def test_a_third_one_is_asked_where_both_fail():
    case = Case(failing(1.0), failing(2.0), stream("c", 0.1), replicas=3)
    client, result = await case.ask()
    assert client.body == ROLE + said("c") + DONE
    assert len(set(case.replicas.asked)) == 3
    assert (result.attempts, result.hedges, result.status) == (2, 1, Status.OK)
    assert case.is_idle


@virtual_time
async def test_where_all_fail_the_client_is_told_once():
    case = Case(failing(1.0), failing(2.0))
    job, client = made_job(), Client()
    case.forwarder.enter(job)
    with pytest.raises(ApiError) as told:
        await case.forwarder.run(job, client.send)
    assert (told.value.status, client.heads) == (503, [])
    assert case.is_idle


@virtual_time
async def test_a_client_that_leaves_ends_both_and_pays_for_the_first():
    first, second = stream("a", 60.0), stream("b", 60.0)
    case, job = Case(first, second), made_job()
    case.forwarder.enter(job)
    asking = asyncio.create_task(case.forwarder.run(job, Client().send))
    await asyncio.sleep(10.0)
    assert (len(case.replicas.asked), case.forwarder.room._queues["m"].held) == (2, 2)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await settled()
    assert (first.is_cut, second.is_cut) == (True, True)
    assert (job.result.prompt_tokens, job.result.output_tokens) == (job.prompt_tokens, 0)
    assert job.result.hedged_tokens == job.prompt_tokens
    assert case.hedges("left") == 1
    assert case.is_idle


@virtual_time
async def test_a_client_that_leaves_while_the_second_answers_ends_it_too():
    second = stream("b", 0.1, rest_s=60.0)
    case, job, client = Case(stream("a", 60.0), second), made_job(), Client()
    case.forwarder.enter(job)
    asking = asyncio.create_task(case.forwarder.run(job, client.send))
    await asyncio.sleep(10.0)
    assert client.body == ROLE + said("b")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await settled()
    assert second.is_cut
    assert (job.result.output_tokens, job.result.replica) == (1, case.replicas.asked[1])
    assert case.is_idle


@virtual_time
async def test_the_slot_of_the_one_that_is_outrun_is_free_while_the_other_one_answers():
    case = Case(stream("a", 60.0), stream("b", 0.1, rest_s=60.0))
    asking = asyncio.create_task(case.ask())
    await asyncio.sleep(10.0)
    assert case.forwarder.room._queues["m"].held == 1
    assert sum(case.pool.busy.values()) == 1
    await asking
    assert case.is_idle


@pytest.mark.parametrize(
    ("retries", "change"),
    [
        pytest.param({"hedging": False}, {}, id="switched off"),
        pytest.param({"floor": 0, "share": 0.0}, {}, id="no budget left"),
        pytest.param({"per_request": 0}, {}, id="no repeats"),
        pytest.param({}, {"key": replace(KEY, priority="batch")}, id="a batch request"),
        pytest.param({}, {"limit_s": 0.28}, id="its deadline is near"),
    ],
)
@virtual_time
async def test_a_slow_answer_is_waited_for_where_no_second_try_may_be_sent(retries, change):
    job = made_job()
    for name, value in change.items():
        setattr(job, name, value)
    after_s = 0.25 if "limit_s" in change else 3.0
    assert after_s > limit_s(job)
    case = Case(stream("a", after_s, rest_s=0.0), retries=retries)
    client, result = await case.ask(job)
    assert client.body == ROLE + said("a") + DONE
    assert (len(case.replicas.asked), result.hedges) == (1, 0)
    assert case.is_idle


@virtual_time
async def test_what_the_engine_keeps_is_asked_for_once():
    case, job = Case(stream("a", 3.0)), made_job()
    job.call.body["store"] = True
    _, result = await case.ask(job)
    assert (len(case.replicas.asked), result.hedges) == (1, 0)


@virtual_time
async def test_a_hedge_takes_no_retry_s_place():
    case = Case(stream("a", 60.0), stream("b", 0.1), retries={"floor": 1, "share": 0.0})
    await case.ask()
    budget = case.forwarder.budget
    assert not budget.has_room_to_hedge
    assert budget.allow()
    assert not budget.allow()


@virtual_time
async def test_a_second_try_waits_for_no_slot_and_is_sent_once_one_is_free():
    long, late = stream("x", 0.1, rest_s=5.0), stream("a", 60.0)
    case = Case(long, late, stream("b", 0.1), slots=1)
    first = asyncio.create_task(case.ask())
    await asyncio.sleep(0.2)
    second = asyncio.create_task(case.ask())
    await asyncio.sleep(4.0)
    assert (len(case.replicas.asked), case.pool.waiting) == (2, 0)
    await first
    client, result = await second
    assert client.body == ROLE + said("b") + DONE
    assert result.hedges == 1
    assert case.is_idle


@pytest.mark.parametrize(
    ("tokens_per_s", "silent_s", "expected"), [(5.0, 0.1, "a"), (5.0, 1.0, "b"), (0.0, 0.1, "b")]
)
@virtual_time
async def test_a_plain_answer_is_waited_for_while_its_replica_writes(tokens_per_s, silent_s, expected):
    case = Case(plain("a", 60.0), plain("b", 1.0))
    taken_at_s = case.pool.snapshot.taken_at_s
    case.pool.reports(tokens_per_s=tokens_per_s, pushed_at_s=taken_at_s - silent_s)
    client, result = await case.ask(made_job(stream=False))
    await settled()
    assert json.loads(client.body)["choices"][0]["message"]["content"] == expected
    assert (result.prompt_tokens, result.output_tokens) == (7, 1)
    assert len(client.heads) == 1
    assert case.is_idle


@virtual_time
async def test_a_replica_that_is_outrun_again_and_again_is_ejected():
    answers = [one for _ in range(FAILURES) for one in (stream("a", 60.0), stream("b", 0.1))]
    case = Case(*answers, replicas=2)
    late = ""
    for turn in range(FAILURES):
        assert case.replicas.ejections.current() == frozenset()
        case.pool.busy.clear()
        late = late or "m#0"
        case.pool.busy["m#1"] = 2  # so that the idle one is asked first
        await case.ask()
        assert case.replicas.asked[2 * turn] == late
    assert case.replicas.ejections.current() == {late}


@virtual_time
async def test_replicas_that_are_ejected_are_not_asked_beside_another():
    case = Case(stream("a", 3.0))
    for _ in range(FAILURES):
        case.replicas.ejections.failed("m#1")
    _, result = await case.ask()
    assert (case.replicas.asked, result.hedges) == (["m#0"], 0)


@virtual_time
async def test_a_prompt_under_which_a_replica_was_lost_goes_to_one_at_a_time():
    case, job = Case(stream("a", 3.0)), made_job()
    case.forwarder.losses.add(job, case.pool.snapshot.models["m"].replicas[0])
    _, result = await case.ask(job)
    assert (len(case.replicas.asked), result.hedges) == (1, 0)
