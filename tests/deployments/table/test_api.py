"""One interface of the table: whoever adds a method writes it in TableApi and in Table, once each."""

import asyncio
import inspect
from typing import Any

import pytest

from deployments.records.snapshot import Snapshot
from deployments.table.api import METHODS, TableApi
from deployments.table.errors import TableError
from deployments.table.publisher import encode_snapshot
from deployments.table.remote import LIMITS_S, RemoteTable
from deployments.table.table import Table


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_table_has_every_method_with_the_same_parameters(method: str) -> None:
    parameters = [inspect.signature(getattr(kind, method)).parameters for kind in (TableApi, Table)]
    assert list(parameters[0].values()) == list(parameters[1].values())


def test_every_time_limit_is_of_a_method() -> None:
    assert set(LIMITS_S) <= METHODS


class Actor:
    """A handle whose methods record their arguments, or never answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.hangs = False

    def __getattr__(self, method: str) -> "Method":
        return Method(self, method)


class Method:
    def __init__(self, actor: Actor, name: str) -> None:
        self.actor, self.name = actor, name

    async def remote(self, *args: Any, **named: Any) -> Any:
        self.actor.calls.append((self.name, args, named))
        if self.actor.hangs:
            await asyncio.Event().wait()
        return encode_snapshot(Snapshot("boot", 7, 0.0)) if self.name == "snapshot_bytes" else self.name


async def test_a_call_goes_to_the_actors_method_of_that_name() -> None:
    actor = Actor()
    assert await RemoteTable(actor).evaluations("suite", model="m") == "evaluations"
    assert actor.calls == [("evaluations", ("suite",), {"model": "m"})]


async def test_the_snapshot_travels_encoded() -> None:
    assert (await RemoteTable(Actor()).snapshot("", 0, 1.0)).version == 7


async def test_a_table_that_does_not_answer_is_an_error_with_the_methods_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actor = Actor()
    actor.hangs = True
    monkeypatch.setitem(LIMITS_S, "status", 0.01)
    with pytest.raises(TableError, match=r"did not answer 'status': no answer within 0.01 s"):
        await RemoteTable(actor).status()


def test_what_is_no_method_of_the_table_is_an_error() -> None:
    with pytest.raises(AttributeError, match="'statuss'"):
        _ = RemoteTable(Actor()).statuss
