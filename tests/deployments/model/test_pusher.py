"""A replica's pushes survive restarts of the table and carry what its engine finished."""

import asyncio
from dataclasses import replace

import pytest

from deployments.model import pusher as pusher_module
from deployments.model.pusher import Pusher
from deployments.records.records import EngineRecord
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.errors import TableError
from tests.virtual_time import virtual_time

CARD = ModelCard("m", "simulated", "", 4096)
ROW = ReplicaRow("r1", "m", "http://127.0.0.1:1", ReplicaState.WARM)


class Table:
    """The other end, which can be away or begin another life."""

    def __init__(self) -> None:
        self.boot_id = "life-1"
        self.away = False
        self.cards: list[ModelCard] = []
        self.finished: list[str] = []
        self.pushes = 0
        self.dropped: list[str] = []

    async def register_model(self, card: ModelCard) -> None:
        self.cards.append(card)

    async def push_replica(self, row: ReplicaRow, finished: list[EngineRecord]) -> str:
        if self.away:
            raise TableError("away")
        self.pushes += 1
        self.finished += [record.decision_id for record in finished]
        return self.boot_id

    async def drop_replica(self, replica: str) -> None:
        if self.away:
            raise TableError("away")
        self.dropped.append(replica)

    async def secret(self) -> str:
        return f"secret of {self.boot_id}"


def declared(table: Table) -> Pusher:
    pusher = Pusher(table, "m", lambda: ROW)
    pusher.declare(CARD)
    return pusher


async def test_it_registers_in_each_life_of_the_table() -> None:
    table = Table()
    pusher = declared(table)
    await pusher.push()
    await pusher.push()
    assert (len(table.cards), pusher.secret) == (1, "secret of life-1")
    table.boot_id = "life-2"
    await pusher.push()
    assert (len(table.cards), pusher.secret) == (2, "secret of life-2")


async def test_a_changed_card_is_registered_with_the_next_push_until_the_table_has_it() -> None:
    table = Table()
    pusher = declared(table)
    await pusher.push()
    pusher.declare(replace(CARD, weight=0.5))
    table.away = True
    with pytest.raises(TableError):
        await pusher.push()
    table.away = False
    await pusher.push()
    await pusher.push()
    assert [card.weight for card in table.cards] == [1.0, 0.5]


@virtual_time
async def test_it_pushes_several_times_a_second_and_at_once_when_touched() -> None:
    table = Table()
    pusher = declared(table)
    await pusher.start()
    await asyncio.sleep(1.0)
    assert 4 <= table.pushes <= 11
    before = table.pushes
    pusher.touch()
    await asyncio.sleep(0.02)
    assert table.pushes == before + 1
    await pusher.close()
    assert table.dropped == ["r1"]


async def test_finished_requests_wait_while_the_table_is_away() -> None:
    table = Table()
    pusher = declared(table)
    pusher.finished(EngineRecord("a"))
    table.away = True
    with pytest.raises(TableError):
        await pusher.push()
    pusher.finished(EngineRecord("b"))
    table.away = False
    await pusher.push()
    await pusher.push()
    assert table.finished == ["a", "b"]


async def test_the_oldest_finished_go_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusher_module, "CAPACITY", 3)
    table = Table()
    pusher = declared(table)
    for name in "abcde":
        pusher.finished(EngineRecord(name))
    await pusher.push()
    assert (table.finished, pusher.dropped) == (["c", "d", "e"], 2)


async def test_closing_while_the_table_is_away_is_no_error() -> None:
    table = Table()
    pusher = declared(table)
    await pusher.start()
    table.away = True
    await pusher.close()
    assert table.dropped == []


async def test_what_was_finished_of_late_is_pushed_again_in_another_life() -> None:
    table, now_s = Table(), [0.0]
    pusher = Pusher(table, "m", lambda: ROW, lambda: now_s[0])
    for at_s, name in ((0.0, "old"), (100.0, "first"), (110.0, "second")):
        now_s[0] = at_s
        pusher.finished(EngineRecord(name))
        await pusher.push()
    assert table.finished == ["old", "first", "second"]
    table.boot_id, table.finished, now_s[0] = "life-2", [], 120.0
    pusher.finished(EngineRecord("third"))
    await pusher.push()
    await pusher.push()
    await pusher.push()
    assert table.finished == ["third", "first", "second"]  # each once in this life
    table.boot_id, table.finished = "life-3", []
    await pusher.push()
    await pusher.push()
    assert sorted(table.finished) == ["first", "second", "third"]
