"""The table from another process: every method of TableApi over the actor's handle, within a time limit."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.report import Report, decision_row, encode_report
from deployments.records.snapshot import Snapshot
from deployments.table.api import METHODS, TableApi
from deployments.table.errors import TableError
from deployments.table.publisher import decode_snapshot
from policies.scaling import Planned

CALL_S: Final = 10.0  # time limit of a method that is not listed below
LIMITS_S: Final = {
    "lease": 2.0,  # a request waits for it
    "feedback": 1.0,  # its caller sends a vote again
    "forget": 600.0,
    "evaluations": 60.0,
    "feedback_records": 60.0,
    "transitions": 60.0,
    "transitions_of": 60.0,
    "put_artifact": 60.0,
    "artifact": 60.0,
}


class RemoteTable:
    """A TableApi: see `remote_table`. Raises TableError while the actor cannot be reached.

    Two methods travel encoded, because they carry the most: a report, and the snapshot, which the actor
    encodes once for all who wait for it. All others are called by their own name.
    """

    def __init__(self, actor: "ActorHandle[Any]") -> None:
        self.actor = actor

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method not in METHODS:
            raise AttributeError(f"The table has no method '{method}'.")
        return partial(self._call, method, LIMITS_S.get(method, CALL_S))

    async def _call(self, method: str, limit_s: float, *args: object, **named: object) -> Any:
        try:
            async with asyncio.timeout(limit_s):
                return await getattr(self.actor, method).remote(*args, **named)
        except RayTaskError as error:
            raise error.cause from None
        except (RayError, TimeoutError) as error:
            reason = str(error) or f"no answer within {limit_s:g} s"
            raise TableError(f"The table did not answer '{method}': {reason}.") from error

    async def report_ingress(
        self,
        ingress: str,
        sequence: int,
        in_flight: dict[str, int],
        decisions: list[DecisionRecord],
        outcomes: list[OutcomeRecord],
        url: str = "",
        planned: dict[str, Planned] | None = None,
    ) -> int:
        """See TableApi."""
        rows = [decision_row(record) for record in decisions]
        data = encode_report(Report(ingress, sequence, in_flight, rows, outcomes, url, planned or {}))
        return int(await self._call("report_encoded", CALL_S, data))

    async def snapshot(self, boot_id: str, version: int, timeout_s: float) -> Snapshot:
        """See TableApi."""
        data = await self._call("snapshot_bytes", timeout_s + CALL_S, boot_id, version, timeout_s)
        return decode_snapshot(data)


def remote_table(actor: "ActorHandle[Any]") -> TableApi:
    """The table behind an actor's handle."""
    return cast(TableApi, RemoteTable(actor))
