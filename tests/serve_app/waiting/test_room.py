"""The waiting room in virtual time: who waits, who is refused, and that nobody waits in vain."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.metrics.meter import MemoryMeter
from serve_app.http.errors import ApiError
from serve_app.metrics import IngressMetrics
from serve_app.waiting.room import RoomSettings, Visit, WaitingRoom
from serve_app.waiting.turns import PATIENCE
from tests.virtual_time import VirtualLoop, virtual_time


@dataclass
class Tally:
    """What a room tells of those that wait."""

    waiting: Counter[str] = field(default_factory=Counter)

    def count_waiting(self, model, change):
        self.waiting[model] += change


class Case:
    """A room before one model, and what became of its requests."""

    def __init__(self, slots=2, per_slot=4.0):
        self.slots = slots
        self.tally = Tally()
        self.meter = MemoryMeter()
        self.room = WaitingRoom(
            self.tally, lambda _: self.slots, IngressMetrics(self.meter), RoomSettings(per_slot, 3.0)
        )
        self.ended: list[tuple[str, str, float]] = []  # key, what became of it, when
        # arrivals of a key and priority, with what was asked for, as they were served
        self.began: dict[tuple[str, str], list[tuple[float, Visit]]] = defaultdict(list)
        self.refused: list[ApiError] = []

    def visit(self, key, priority="interactive", weight=1.0, deadline_s=1e9, cost_s=1.0):
        return Visit("m", key, weight, priority, cost_s, deadline_s)

    async def ask(self, visit, took_s=1.0):
        """One request: waits, holds its slot for `took_s`, leaves. Returns why it was refused."""
        loop = asyncio.get_running_loop()
        came_s = loop.time()
        try:
            place = self.room.enter(visit)
        except ApiError as error:
            self.refused.append(error)
            self.ended.append((visit.key, "refused", loop.time()))
            return error
        try:
            if place.in_line:
                await place.wait()
            self.began[visit.key, visit.priority].append((came_s, visit))
            await asyncio.sleep(took_s)
            self.ended.append((visit.key, "served", loop.time()))
        except TimeoutError:
            self.ended.append((visit.key, "expired", loop.time()))
        except ApiError as error:
            self.refused.append(error)
            self.ended.append((visit.key, "sent away", loop.time()))
        finally:
            place.leave()
        return None

    def count(self, key, what):
        return sum(one[:2] == (key, what) for one in self.ended)

    @property
    def is_empty(self):
        queue = self.room._queues["m"]
        return (queue.held, queue.waiting, self.tally.waiting["m"]) == (0, 0, 0)


@virtual_time
async def test_a_free_slot_is_taken_without_waiting():
    case = Case(slots=3)
    places = [case.room.enter(case.visit("a")) for _ in range(3)]
    assert not any(place.in_line for place in places)
    assert case.room.enter(case.visit("a")).in_line
    assert case.tally.waiting["m"] == 1


@virtual_time
async def test_there_is_a_slot_where_one_is_free_and_nobody_waits():
    case = Case(slots=2)
    assert not case.room.has_slot("m"), "nobody has asked it yet"
    first = case.room.enter(case.visit("a"))
    assert case.room.has_slot("m")
    second = case.room.enter(case.visit("a"))
    assert not case.room.has_slot("m")
    third = case.room.enter(case.visit("a"))
    first.leave()
    assert not case.room.has_slot("m"), "the third one has it"
    second.leave()
    assert case.room.has_slot("m")
    third.leave()
    assert case.is_empty


@virtual_time
async def test_more_than_may_wait_are_refused_at_once_with_the_time_until_the_others_are_served():
    case = Case(slots=2, per_slot=3.0)
    await case.ask(case.visit("a"))  # now it is known how long one takes
    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*(case.ask(case.visit("a")) for _ in range(10)))
    assert (case.count("a", "served"), case.count("a", "refused")) == (1 + 2 + 4, 4)
    assert {at_s for _, what, at_s in case.ended if what == "refused"} == {began_s}
    assert {(error.status, error.code) for error in case.refused} == {(429, "overloaded")}
    told = [int(error.headers["retry-after"]) for error in case.refused]
    assert told == [3, 3, 4, 4]  # five of a second each over two slots; then each comes for a slot of its own
    assert case.is_empty


@virtual_time
async def test_whoever_comes_again_when_told_is_served():
    case = Case(slots=2, per_slot=3.0)
    await case.ask(case.visit("a"))

    async def patient():
        refused = await case.ask(case.visit("a"))
        if refused is not None:
            await asyncio.sleep(int(refused.headers["retry-after"]))
            await case.ask(case.visit("a"))

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(patient())
            await asyncio.sleep(0)
    assert (case.count("a", "served"), case.count("a", "refused")) == (41, 34)


@virtual_time
async def test_retry_after_tells_what_the_long_ones_take_that_still_wait():
    case = Case(slots=1)
    await case.ask(case.visit("a", cost_s=0.5))  # predictions are half of what it takes
    async with asyncio.TaskGroup() as group:
        for _ in range(1 + 3 + 1):  # the last one finds no room
            group.create_task(case.ask(case.visit("a", cost_s=1.0), took_s=2.0))
    (refused,) = case.refused
    assert int(refused.headers["retry-after"]) == 4 * 2


@virtual_time
async def test_a_neighbour_who_floods_takes_nothing_of_a_key_s_share():
    case = Case(slots=4, per_slot=4.0)

    async def steady(key, every_s, count):
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(case.ask(case.visit(key)))
                await asyncio.sleep(every_s)

    await asyncio.gather(steady("flood", 0.02, 1_000), steady("calm", 1.0, 20))
    assert case.count("calm", "served") == 20
    assert case.count("flood", "refused") > 800
    assert case.count("flood", "served") >= 60  # and no slot was left empty
    assert case.is_empty


@virtual_time
async def test_batch_requests_come_after_interactive_ones_and_make_room_for_them():
    case = Case(slots=1, per_slot=4.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(case.ask(case.visit("a")))
        await asyncio.sleep(0.1)
        for _ in range(3):
            group.create_task(case.ask(case.visit("b", "batch")))
        await asyncio.sleep(0.1)
        for _ in range(2):
            group.create_task(case.ask(case.visit("c")))
    assert [key for key, what, _ in case.ended if what == "served"] == ["a", "c", "c", "b"]
    assert case.count("b", "sent away") == 2
    assert {error.status for error in case.refused} == {429}
    assert case.is_empty


@virtual_time
async def test_of_batch_requests_the_greediest_key_s_make_room():
    case = Case(slots=1, per_slot=5.0)
    async with asyncio.TaskGroup() as group:
        for key in "aaaaa":
            group.create_task(case.ask(case.visit(key, "batch")))
        await asyncio.sleep(0.1)
        for key in "bbb":
            group.create_task(case.ask(case.visit(key, "batch")))
    assert (case.count("a", "sent away"), case.count("b", "refused")) == (2, 1)
    assert case.count("b", "served") == 2


@virtual_time
async def test_a_request_whose_deadline_passes_stops_to_wait():
    case = Case(slots=1)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(case.ask(case.visit("a"), took_s=5.0))
        await asyncio.sleep(0)
        group.create_task(case.ask(case.visit("a", deadline_s=loop.time() + 2.0)))
        group.create_task(case.ask(case.visit("b")))
    assert ("a", "expired", 2.0) in case.ended
    assert ("b", "served", 6.0) in case.ended
    assert case.is_empty


@virtual_time
async def test_a_request_that_cannot_make_its_deadline_is_refused_at_once():
    case = Case(slots=1)
    await case.ask(case.visit("a"), took_s=2.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(case.ask(case.visit("a"), took_s=2.0))
        await asyncio.sleep(0.1)
        group.create_task(case.ask(case.visit("a", deadline_s=2.5)))
    assert ("a", "refused", 2.1) in [(key, what, round(at_s, 3)) for key, what, at_s in case.ended]
    assert "deadline" in case.refused[0].message


@virtual_time
async def test_a_client_that_leaves_gives_its_place_back():
    case = Case(slots=1)
    async with asyncio.TaskGroup() as group:
        holds = group.create_task(case.ask(case.visit("a"), took_s=100.0))
        await asyncio.sleep(0)
        waits = group.create_task(case.ask(case.visit("a")))
        group.create_task(case.ask(case.visit("b")))
        await asyncio.sleep(1.0)
        waits.cancel()
        await asyncio.sleep(1.0)
        holds.cancel()
    assert ("b", "served", 3.0) in case.ended
    assert case.is_empty


@virtual_time
async def test_one_that_leaves_in_the_moment_it_is_served_holds_nothing():
    case = Case(slots=1)
    first, second, third = (case.room.enter(case.visit("a")) for _ in range(3))
    waits = asyncio.ensure_future(second.wait())
    after = asyncio.ensure_future(third.wait())
    await asyncio.sleep(0)
    waits.cancel()
    first.leave()  # its slot goes past the one that is on its way out
    await asyncio.gather(waits, return_exceptions=True)
    second.leave()
    await after
    third.leave()
    assert case.is_empty


@virtual_time
async def test_while_a_model_pauses_its_requests_wait_and_then_are_told():
    case = Case(slots=1)
    first = case.room.enter(case.visit("a"))
    second = case.room.enter(case.visit("a"))
    waits = asyncio.ensure_future(second.wait())
    case.slots = 0
    first.leave()
    await asyncio.sleep(2.0)
    case.room.pump()
    assert second.in_line  # a pause is no end
    await asyncio.sleep(1.5)
    case.room.pump()
    assert not second.in_line  # its try finds that there is nobody
    await waits


@virtual_time
async def test_short_requests_go_first_and_a_long_one_waits_only_so_long_for_them():
    case = Case(slots=1, per_slot=12.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(case.ask(case.visit("a")))
        await asyncio.sleep(0.5)
        group.create_task(case.ask(case.visit("a", cost_s=3.0), took_s=3.0))
        await asyncio.sleep(0.25)
        for _ in range(60):
            group.create_task(case.ask(case.visit("a", cost_s=0.5), took_s=0.5))
            await asyncio.sleep(0.5)
    came = [came_s for came_s, _ in case.began["a", "interactive"]]
    long = came.index(0.5)
    assert long > 10  # it was passed by many that came after it
    assert max(came[:long]) <= 0.5 + PATIENCE * 3.0 < came[-1]
    assert case.count("a", "served") == 62


@virtual_time
async def test_a_long_request_is_served_before_its_deadline_whatever_comes_after_it():
    case = Case(slots=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(case.ask(case.visit("a")))
        await asyncio.sleep(0.5)
        group.create_task(case.ask(case.visit("a", deadline_s=14.0, cost_s=4.0)))
        for _ in range(40):
            group.create_task(case.ask(case.visit("a", cost_s=0.5)))
            await asyncio.sleep(1.0)
    assert 0.5 + PATIENCE * 4.0 > 14.0  # its turn alone would have come too late
    assert case.count("a", "served") == 42
    assert case.is_empty


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["interactive", "interactive", "batch"]),
        st.floats(0.0, 0.6),  # since the one before
        st.floats(0.2, 3.0),  # for which it holds a slot
        st.sampled_from([1e9, 1.0, 4.0]),  # until its deadline
    ),
    min_size=5,
    max_size=80,
)


@settings(max_examples=80, deadline=None)
@given(ARRIVALS, st.integers(1, 4), st.sampled_from([1.5, 3.0, 4.0]))
def test_properties(arrivals, slots, per_slot):
    """No key below its share is refused for room while another is above its own; nobody waits past its
    deadline; within a key and a priority only shorter ones, and nearer deadlines, pass who came before;
    nothing is lost."""
    case = Case(slots, per_slot)

    async def scenario():
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for key, priority, gap_s, took_s, limit_s in arrivals:
                await asyncio.sleep(gap_s)
                visit = case.visit(key, priority, deadline_s=loop.time() + limit_s, cost_s=took_s)
                line = case.room._queues["m"].lines[priority] if case.room._queues else None
                held = {k: line.of(k) for k in "abcd"} if line is not None else {}
                before = len(case.refused)
                task = group.create_task(case.ask(visit, took_s))
                await asyncio.sleep(0)
                told = case.refused[before:]
                if task.done() and told and "wait for it" in told[-1].message and priority == "interactive":
                    wait = [k for k, n in held.items() if n or k == key]
                    share = max(slots * (per_slot - 1.0) / len(wait), 1.0)
                    assert held[key] + 1 > share

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())
    for began in case.began.values():
        for place, (came_s, visit) in enumerate(began):
            for later_s, other in began[:place]:
                by_turn = later_s + PATIENCE * other.cost_s <= came_s + PATIENCE * visit.cost_s
                assert later_s <= came_s or by_turn or other.deadline_s <= visit.deadline_s
    assert len(case.ended) == len(arrivals)
    assert case.is_empty


@virtual_time
async def test_expired_requests_end_at_their_deadline():
    case = Case(slots=1)
    case.room.enter(case.visit("a"))
    place = case.room.enter(case.visit("a", deadline_s=5.0))
    with pytest.raises(TimeoutError):
        await place.wait()
    assert asyncio.get_running_loop().time() == 5.0
