"""Money is neither made nor lost: several replicas over one real table, killed and restarted at will."""

import asyncio
import tempfile
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.records.decision_id import decision_id
from deployments.records.leases import Ask, Grant, Resource
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.table.errors import TableError
from deployments.table.store.store import Store
from deployments.table.table import LEASE_S, Table
from policies.outcome import Outcome, Status
from serve_app.access.leases import USED_S, AwayError, Hold, Leases
from tests.clock import Clock

ACCOUNT = "key:k"
LIMIT = 10_000  # nano-dollars
COST = 100  # of a request, at most


@dataclass
class Replica:
    """One life of an ingress replica: its leases, its requests in flight, its outcomes not reported yet."""

    name: str
    leases: Leases
    running: list[Hold] = field(default_factory=list)
    unreported: list[int] = field(default_factory=list)

    @property
    def committed(self) -> int:
        return sum(hold.amount for hold in self.running) + sum(self.unreported)

    async def admit(self) -> bool:
        purse = self.leases.purse(ACCOUNT, Resource.USD, LIMIT, 0.0, "1d")
        hold = Hold(purse, COST, COST)
        if await self.leases.take([hold]) is not None:
            return False
        self.running.append(hold)
        return True

    def finish(self, cost: int) -> None:
        if self.running:
            self.leases.settle(self.running.pop(0), cost)
            self.unreported.append(cost)


class World:
    """Replicas over a table that may be replaced by its next life."""

    def __init__(self, folder: str) -> None:
        self.url = f"sqlite:///{folder}/store.sqlite3"
        self.clock = Clock(1_700_000_000.0)
        self.table = Table(Store(self.url), clock=self.clock)
        self.replicas = [self.born(number) for number in range(3)]
        self.reports = self.lives = 0
        self.logged = 0

    def born(self, number: int) -> Replica:
        name = f"ingress-{number}"
        return Replica(name, Leases(self.table, name, clock=self.clock))

    async def report(self, replica: Replica) -> None:
        outcomes = []
        for cost in replica.unreported:
            self.reports += 1
            outcome = Outcome(Status.OK, cost_usd=cost / 1e9)
            record = OutcomeRecord(
                f"d-{self.reports}", self.clock.now_s, "m", "r", outcome, accounts=(ACCOUNT,)
            )
            outcomes.append(record)
            self.logged += cost
        replica.unreported = []
        await self.table.report_ingress(replica.name, self.reports, {}, [], outcomes)

    async def admit(self, index: int, number: int) -> None:
        for _ in range(5):
            await self.replicas[index].admit()

    async def finish(self, index: int, number: int) -> None:
        for _ in range(4):
            self.replicas[index].finish(number)

    async def report_of(self, index: int, number: int) -> None:
        await self.report(self.replicas[index])

    async def renew(self, index: int, number: int) -> None:
        await self.replicas[index].leases.renew()

    async def kill(self, index: int, number: int) -> None:
        self.lives += 1
        self.replicas[index] = self.born(100 + self.lives)

    async def kill_table(self, index: int, number: int) -> None:
        """As a kill leaves it: no checkpoint."""
        self.table.store.close()
        self.table = Table(Store(self.url), clock=self.clock)
        for replica in self.replicas:
            replica.leases._table = self.table

    async def check(self) -> None:
        spent = (await self.table.spent([ACCOUNT], "1d"))[ACCOUNT]
        assert spent.nano_usd == self.logged
        assert self.logged + sum(replica.committed for replica in self.replicas) <= LIMIT


STEP = {
    "admit": World.admit,
    "finish": World.finish,
    "report": World.report_of,
    "renew": World.renew,
    "kill": World.kill,
    "table": World.kill_table,
}

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit"] * 6 + ["finish"] * 4 + ["report", "report", "renew", "kill", "table"]),
        st.integers(0, 2),
        st.integers(0, COST),
    ),
    min_size=20,
    max_size=120,
)


async def spend_all(world: World) -> None:
    """What dead replicas held comes back, and the living admit requests until the limit is reached."""
    for _ in range(3):
        world.clock.now_s += LEASE_S / 2 + 1.0
        for replica in world.replicas:
            await replica.leases.renew()
    for replica in world.replicas * 2:
        while await replica.admit():
            replica.finish(COST)
        while replica.running:
            replica.finish(0)
        await world.report(replica)
        await replica.leases.renew()
        world.clock.now_s += 3.0
        await replica.leases.renew()
        await world.check()
    assert world.logged > LIMIT - COST, "what was leased and not used was lost"


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_no_more_than_the_limit_is_ever_admitted_and_all_of_it_can_be_spent(steps) -> None:
    async def run(folder: str) -> None:
        world = World(folder)
        for name, index, number in steps:
            world.clock.now_s += 0.3
            await STEP[name](world, index, number)
            await world.check()
        await spend_all(world)
        await world.table.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


class Stub:
    """A table that grants all that is asked for, until it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.calls: list[list[Ask]] = []

    async def lease(self, holder: str, asks: list[Ask]) -> list[Grant]:
        await asyncio.sleep(0)
        if self.is_away:
            raise TableError("away")
        self.calls.append(asks)
        return [
            Grant(ask.reserved + ask.want, 0 if ask.resource is Resource.USD else ask.settled, 320, 0, 0)
            for ask in asks
        ]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def degraded() -> list[str]:
    return []


@pytest.fixture
def leases(stub, clock, degraded) -> Leases:
    return Leases(stub, "i", degraded.append, clock)


def slots(leases: Leases, limit: int = 10**6) -> list[Hold]:
    return [Hold(leases.purse(ACCOUNT, Resource.SLOTS, limit), 1, 1)]


async def test_in_the_common_case_no_request_asks_the_table(leases, stub):
    for _ in range(1_000):
        holds = slots(leases)
        assert await leases.take(holds) is None
        leases.settle(holds[0], 0)
    assert len(stub.calls) <= 2


async def test_all_who_wait_are_served_by_one_ask(leases, stub):
    await asyncio.gather(*(leases.take(slots(leases)) for _ in range(50)))
    assert len(stub.calls) <= 2


async def test_while_the_table_is_away_what_is_leased_is_used_up_and_no_more(leases, stub, degraded, clock):
    await leases.take(slots(leases, 320))
    await leases.renew()
    free = leases.find(ACCOUNT, Resource.SLOTS).free
    assert free > 0
    stub.is_away = True
    for _ in range(free):
        assert await leases.take(slots(leases, 320)) is None
    clock.now_s += 1.0
    with pytest.raises(AwayError):
        await leases.take(slots(leases, 320))
    assert degraded
    assert leases.is_away
    stub.is_away = False
    clock.now_s += 1.0
    assert await leases.take(slots(leases, 320)) is None
    assert not leases.is_away


async def test_a_lease_that_was_not_renewed_is_used_no_more(leases, stub, clock):
    await leases.take(slots(leases))
    await leases.renew()
    stub.is_away = True
    clock.now_s += USED_S + 1.0
    with pytest.raises(AwayError):
        await leases.take(slots(leases))
    assert USED_S < LEASE_S


async def test_who_leaves_while_waiting_takes_nothing_along(leases):
    waiting = [asyncio.create_task(leases.take(slots(leases))) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting[:5]:
        task.cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert done[5:] == [None] * 5
    assert leases.find(ACCOUNT, Resource.SLOTS).reserved == 5


async def test_what_is_held_ahead_goes_back_when_nobody_needs_it(leases, clock):
    holds = slots(leases)
    await leases.take(holds)
    leases.settle(holds[0], 0)
    clock.now_s += 5.0
    await leases.renew()
    assert leases.find(ACCOUNT, Resource.SLOTS).granted == 0


@pytest.mark.parametrize("resource", [Resource.SLOTS, Resource.USD])
async def test_a_request_that_is_repeated_takes_the_place_of_what_its_dead_replica_held(tmp_path, resource):
    clock = Clock(1_700_000_000.0)
    table = Table(Store(f"sqlite:///{tmp_path}/store.sqlite3"), clock=clock)
    dead, living = (Leases(table, name, clock=clock) for name in ("dead", "living"))
    first, other = "a" * 24, "b" * 24

    def hold(leases: Leases, request: str) -> Hold:
        purse = leases.purse(ACCOUNT, resource, 1, window="1d" if resource is Resource.USD else "")
        return Hold(purse, 1, 1, request=request)

    assert await dead.take([hold(dead, first)]) is None
    assert await living.take([hold(living, first)]) is not None, "the table knows of no try before"
    record = DecisionRecord(
        decision_id(first), clock.now_s, "k", "m", "", "m", "formula", 1.0, 0.0, 0, ingress="dead"
    )
    await table.report_ingress("dead", 1, {}, [record], [])
    clock.now_s += 0.5
    assert await living.take([hold(living, other)]) is not None, "another request must wait for the lease"
    clock.now_s += 0.5
    assert await living.take([hold(living, first)]) is None
    clock.now_s += 0.5
    assert await living.take([hold(living, other)]) is not None, "no more than the limit is held"
    await table.close()
