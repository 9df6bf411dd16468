"""A model replica with the simulated engine and a real table, without Ray."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deployments.model.config import ModelConfig
from deployments.model.engines.base import LAST_PATIENCE, PATIENCE, EngineError, EngineStats
from deployments.model.model import Model
from deployments.records.snapshot import ReplicaRow, ReplicaState, tokenizer_artifact
from deployments.table.errors import TableError
from deployments.table.store.store import Store
from deployments.table.table import Table
from tests.model_parts import parted

MODEL = ModelConfig.model_validate({"id": "small", "engine": "simulated"})
SLOW = {"decode_step_s": 0.02, "decode_step_per_sequence_s": 0.0}


@pytest.fixture(name="table")
async def table_fixture(tmp_path: Path) -> AsyncIterator[Table]:
    table = Table(Store(f"sqlite:///{tmp_path}/table.sqlite3"))
    yield table
    await table.close()


async def started(
    table: Any, simulated: dict[str, Any] | None = None, is_removed: bool = False, **config: Any
) -> Model:
    values = {"id": "small", "engine": "simulated", "simulated": simulated or SLOW, "drain_s": 5, **config}
    args, live = parted(values)
    parsed = ModelConfig.model_validate(args)
    model = Model(parsed, table, host="127.0.0.1", replica="r1", is_removed=lambda: is_removed)
    await model.reconfigure(live)
    return model


@contextlib.asynccontextmanager
async def serving(table: Any, simulated: dict[str, Any] | None = None, **config: Any) -> AsyncIterator[Model]:
    model = await started(table, simulated, **config)
    try:
        yield model
    finally:
        await model.leave()


async def row(table: Table) -> ReplicaRow | None:
    models = (await table.snapshot("", 0, 0.0)).models
    replicas = models["small"].replicas if "small" in models else ()
    return replicas[0] if replicas else None


async def until_state(table: Table, state: ReplicaState) -> ReplicaRow:
    async with asyncio.timeout(60):
        while True:
            found = await row(table)
            if found is not None and found.state is state:
                return found
            await asyncio.sleep(0.02)


async def chat(table: Table, url: str, max_tokens: int, stream: bool = False) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {await table.secret()}", "x-request-id": "decision"}
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": stream,
    }
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(f"{url}/v1/chat/completions", json=body) as answer,
    ):
        return answer.status, await answer.text()


async def test_a_started_replica_is_in_the_table_and_answers(table: Table) -> None:
    async with serving(table):
        found = await until_state(table, ReplicaState.WARM)
        assert (found.replica, found.model, found.slots) == ("r1", "small", 32)
        assert found.memory_bytes > 0
        assert (await table.snapshot("", 0, 0.0)).models["small"].card.engine == "simulated"
        status, text = await chat(table, found.url, 3)
        assert (status, "[simulated]" in text) == (200, True)


async def test_a_loading_replica_is_cold(table: Table) -> None:
    starting = asyncio.create_task(started(table, {**SLOW, "startup_s": 0.5}))
    found = await until_state(table, ReplicaState.COLD)
    status, _ = await chat(table, found.url, 3)
    assert status == 503
    model = await starting
    await until_state(table, ReplicaState.WARM)
    await model.leave()


async def test_running_requests_show_in_the_table_and_to_the_autoscaler(table: Table) -> None:
    async with serving(table) as model:
        found = await until_state(table, ReplicaState.WARM)
        calls = [asyncio.create_task(chat(table, found.url, 1500)) for _ in range(3)]  # 30 s
        async with asyncio.timeout(60):
            while (await row(table) or found).running < 3:
                await asyncio.sleep(0.02)
        assert model.record_autoscaling_stats() == {"ongoing": 3.0}
        for call in calls:
            call.cancel()
        async with asyncio.timeout(60):
            while model.record_autoscaling_stats() != {"ongoing": 0.0}:
                await asyncio.sleep(0.02)


async def test_a_leaving_replica_ends_its_streams_and_leaves_the_table(table: Table) -> None:
    model = await started(table, drain_s=60)
    found = await until_state(table, ReplicaState.WARM)
    stream = asyncio.create_task(chat(table, found.url, 250, stream=True))  # 5 s
    while not model.record_autoscaling_stats()["ongoing"]:
        await asyncio.sleep(0.01)
    leaving = asyncio.create_task(model.leave())
    await until_state(table, ReplicaState.DRAINING)
    assert (await chat(table, found.url, 2))[0] == 200  # an ingress that has not heard of it yet
    status, text = await stream
    assert (status, text.rstrip().endswith("data: [DONE]")) == (200, True)
    await leaving
    assert await row(table) is None


async def test_a_drain_ends_even_if_a_stream_does_not(table: Table) -> None:
    model = await started(table, drain_s=1.2)
    found = await until_state(table, ReplicaState.WARM)
    stream = asyncio.create_task(chat(table, found.url, 1500, stream=True))  # 30 s
    while not model.record_autoscaling_stats()["ongoing"]:
        await asyncio.sleep(0.01)
    await model.leave()
    with pytest.raises(aiohttp.ClientError):  # cut off: to its end it would be an answer
        await stream


async def test_a_stalled_engine_is_told_and_fails_its_health_check(table: Table) -> None:
    async with serving(table, stall_s=0.3) as model:
        found = await until_state(table, ReplicaState.WARM)
        await model.check_health()
        await model.reconfigure({"stall_s": 0.3, "faults": {"stalled": True}})
        hung = asyncio.create_task(chat(table, found.url, 5))
        await until_state(table, ReplicaState.STALLED)
        with pytest.raises(EngineError, match=r"'small' made no step for 0\.3 s"):
            await model.check_health()
        await model.reconfigure({"stall_s": 0.3})
        assert (await hung)[0] == 200
        await until_state(table, ReplicaState.WARM)
        await model.check_health()


@pytest.mark.parametrize(
    ("others", "is_computing", "is_replaced"),
    [
        ([], True, False),
        ([ReplicaState.WARM], True, True),
        ([ReplicaState.STALLED, ReplicaState.COLD], True, False),
        ([], False, True),
    ],
    ids=["the last one", "another serves", "no other serves", "it computes nothing"],
)
async def test_the_last_replica_of_a_model_is_not_replaced_for_slowness(
    table: Table, monkeypatch: pytest.MonkeyPatch, others: Any, is_computing: bool, is_replaced: bool
) -> None:
    async with serving(table, stall_s=0.1) as model:
        found = await until_state(table, ReplicaState.WARM)
        for number, state in enumerate(others):
            await table.push_replica(replace(found, replica=f"other-{number}", state=state), [])
        while len((await table.snapshot("", 0, 0.0)).models["small"].replicas) <= len(others):
            await asyncio.sleep(0.02)
        progressed_s = time.monotonic() - 0.1 * (PATIENCE + 5)
        stats = EngineStats(running=1, progressed_s=progressed_s, is_computing=is_computing)
        monkeypatch.setattr(model._engine, "stats", lambda: stats)
        assert model.state() is ReplicaState.STALLED
        if is_replaced:
            with pytest.raises(EngineError, match="made no step"):
                await model.check_health()
        else:
            await model.check_health()
            long_ago = replace(stats, progressed_s=progressed_s - 0.1 * LAST_PATIENCE)
            monkeypatch.setattr(model._engine, "stats", lambda: long_ago)
            with pytest.raises(EngineError, match="made no step"):  # that is no slowness any more
                await model.check_health()


async def test_an_idle_engine_is_not_stalled(table: Table) -> None:
    async with serving(table, stall_s=0.1) as model:
        await asyncio.sleep(0.3)
        assert model.state() is ReplicaState.WARM


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "redeployed"])
async def test_a_model_taken_out_of_the_pool_is_no_longer_listed(table: Table, is_removed: bool) -> None:
    model = await started(table, is_removed=is_removed, drain_s=0)
    await model.leave()
    assert ("small" in (await table.snapshot("", 0, 0.0)).models) is not is_removed


async def test_serve_leaves_once_and_the_collector_finds_nothing_to_do(table: Table) -> None:
    model = await started(table, drain_s=0)
    leaving = model.__del__()
    assert leaving is not None
    await leaving
    assert model.__del__() is None
    assert await row(table) is None


async def test_live_settings_reach_the_table_and_the_door_without_a_restart(table: Table) -> None:
    async with serving(table) as model:
        found = await until_state(table, ReplicaState.WARM)
        await model.reconfigure({"price": {"prompt_usd_per_mtok": 3}, "weight": 0, "max_ongoing_requests": 1})
        async with asyncio.timeout(60):
            while (await table.snapshot("", 0, 0.0)).models["small"].card.weight:
                await asyncio.sleep(0.02)
        card = (await table.snapshot("", 0, 0.0)).models["small"].card
        assert (card.prompt_usd_per_mtok, card.weight) == (3.0, 0.0)
        running = asyncio.create_task(chat(table, found.url, 250))
        while not model.record_autoscaling_stats()["ongoing"]:
            await asyncio.sleep(0.01)
        assert (await chat(table, found.url, 1))[0] == 429
        assert (await running)[0] == 200


async def test_a_replica_is_never_known_without_its_settings(table: Table) -> None:
    cards = []

    class Watched(LateTable):
        async def register_model(self, card: Any) -> None:
            cards.append(card.weight)

    async with serving(Watched(table, failures=0), weight=0.25):
        assert cards == [0.25]
        with pytest.raises(EngineError, match="user_config null"):
            await Model(MODEL, table, host="127.0.0.1", replica="r2").check_health()


async def test_unknown_live_settings_are_refused(table: Table) -> None:
    async with serving(table) as model:
        with pytest.raises(ValueError, match="Unknown key 'speed'"):
            await model.reconfigure({"speed": 2})
        assert model.settings.drain_s == 5


class LateTable:
    """A table that is away at first."""

    def __init__(self, table: Table, failures: int) -> None:
        self._table = table
        self._failures = failures

    async def push_replica(self, *args: Any) -> str:
        if self._failures:
            self._failures -= 1
            raise TableError("away")
        return await self._table.push_replica(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


async def test_a_replica_waits_for_a_table_that_is_away(table: Table) -> None:
    async with serving(LateTable(table, failures=2)):
        await until_state(table, ReplicaState.WARM)


async def test_a_replica_lives_on_while_the_table_is_away(table: Table) -> None:
    late = LateTable(table, failures=0)
    async with serving(late) as model:
        found = await until_state(table, ReplicaState.WARM)
        late._failures = 2
        await asyncio.sleep(0.5)
        assert (await chat(table, found.url, 2))[0] == 200
        await model.check_health()
        await until_state(table, ReplicaState.WARM)


async def test_the_table_gets_the_tokenizer_of_a_model_that_has_one(table: Table, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    async with serving(table, source=str(tmp_path)):
        async with asyncio.timeout(60):
            while not (tokenizer := (await table.snapshot("", 0, 0.0)).models["small"].card.tokenizer):
                await asyncio.sleep(0.02)
        assert await table.artifact(tokenizer_artifact(tokenizer)) == (tokenizer, b"{}")


async def test_a_model_without_a_tokenizer_names_none(table: Table) -> None:
    async with serving(table):
        await until_state(table, ReplicaState.WARM)
        assert (await table.snapshot("", 0, 0.0)).models["small"].card.tokenizer == ""
