"""Parts of shared limits that this ingress replica holds: leased ahead of need, given back unused."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from deployments.logger import get_logger
from deployments.records.leases import Resource
from deployments.table.api import TableApi
from deployments.table.errors import StorageUnavailableError, TableError
from serve_app.access.purse import Purse

logger = get_logger(__name__)

USED_S: Final = 20.0  # a grant is used so long without renewal; the table takes it back after LEASE_S, 30 s
RENEW_S: Final = 1.0
RENEW_IDLE_S: Final = 600.0  # the same for a purse that holds nothing
KNOWN_S: Final = 0.2  # an answer that nothing is left counts so long
AGAIN_S: Final = (0.05, 0.15)  # pauses before a slot that another replica holds is asked for again
PAUSE_S: Final = 0.5  # after an ask that failed nobody waits for the next one


@dataclass(slots=True)
class Hold:
    """A part of a purse that one request takes: `want`, or what there is of it from `least` on."""

    purse: Purse
    want: int
    least: int
    amount: int = 0
    request: str = ""  # its name: a dead replica may still hold the same for it


class AwayError(Exception):
    """What is leased is used up, and the table does not answer."""


_Waiter = tuple[Sequence[Hold], "asyncio.Future[Hold | None]"]


class Leases:
    """All purses of one replica, and the one conversation with the table about them.

    Raises AwayError where the table would have to be asked and cannot be.
    """

    def __init__(
        self,
        table: TableApi,
        holder: str,
        degraded: Callable[[str], None] = lambda mode: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table, self._holder, self._degraded, self._clock = table, holder, degraded, clock
        self._purses: dict[tuple[str, Resource], Purse] = {}
        self._waiting: list[_Waiter] = []
        self._asking = asyncio.Lock()
        self._failed_s = float("-inf")
        self._due: dict[int, Purse] = {}
        self._soon: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        """Whether the last ask failed."""
        return self._failed_s > float("-inf")

    def purse(
        self, account: str, resource: Resource, limit: float, per_s: float = 0.0, window: str = ""
    ) -> Purse:
        """The purse of a limit; changed limits are in force from now on."""
        purse = self._purses.get((account, resource))
        if purse is None:
            purse = self._purses[account, resource] = Purse(account, resource, limit)
        purse.limit, purse.per_s, purse.window = limit, per_s, window
        return purse

    def find(self, account: str, resource: Resource) -> Purse | None:
        """The purse of an account that has, or had, such a limit."""
        return self._purses.get((account, resource))

    async def take(self, holds: Sequence[Hold]) -> Hold | None:
        """Take all of `holds`, or nothing: then the one that lacks is returned."""
        lacking = self._try(holds)
        if lacking is None:
            self._top_up(holds)
            return None
        if self._is_known_short(lacking):
            return lacking
        lacking = await self._wait(holds)
        for pause_s in AGAIN_S:
            if lacking is None or lacking.purse.resource is not Resource.SLOTS or not lacking.purse.others:
                break
            await asyncio.sleep(pause_s)
            lacking = await self._wait(holds)
        return lacking

    def settle(self, hold: Hold, used: int) -> None:
        """A request used so much of what it took; what it did not need goes back where others may lack it."""
        hold.purse.settle(hold.amount, used)
        hold.amount = 0
        if hold.purse.free and not hold.purse.ahead(self._clock()):
            self._ask_soon(hold.purse)

    async def renew(self) -> None:
        """Tell the table of all purses, and ask for what they should hold."""
        now_s = self._clock()
        purses = [
            purse
            for purse in self._purses.values()
            if now_s - purse.answered_s >= (RENEW_IDLE_S if purse.is_idle else 0.0)
        ]
        async with self._asking:
            if purses:
                await self._turn(purses)

    def _try(self, holds: Sequence[Hold]) -> Hold | None:
        now_s = self._clock()
        for hold in holds:
            if now_s - hold.purse.answered_s > USED_S or hold.purse.free < hold.least:
                return hold
        for hold in holds:
            hold.amount = min(hold.want, hold.purse.free)
            hold.purse.take(hold.amount, now_s)
        return None

    def _is_known_short(self, hold: Hold) -> bool:
        """Whether the table has just said that so much is not left; slots may be back at any time."""
        purse, now_s = hold.purse, self._clock()
        is_new = now_s - purse.answered_s < KNOWN_S
        return is_new and purse.resource is not Resource.SLOTS and purse.remaining(now_s) < hold.least

    async def _wait(self, holds: Sequence[Hold]) -> Hold | None:
        """Ask the table; whoever comes first asks for all who wait."""
        if self._clock() - self._failed_s < PAUSE_S:
            raise AwayError
        future: asyncio.Future[Hold | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((holds, future))
        try:
            async with self._asking:
                if not future.done():
                    with contextlib.suppress(TableError, StorageUnavailableError):  # the future says it
                        await self._turn(())
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._undo(holds)
            future.cancel()
            raise

    def _undo(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            hold.purse.settle(hold.amount, 0)
            hold.amount = 0

    async def _turn(self, purses: Iterable[Purse]) -> None:
        """One ask for `purses` and for all who wait, who are answered. Raises what the table raised."""
        batch, self._waiting = self._waiting, []
        try:
            await self._ask(purses, batch)
        except asyncio.CancelledError:
            self._waiting = [*batch, *self._waiting]  # the next of them asks
            raise
        except Exception:
            self._tell(batch, is_away=True)
            raise
        self._tell(batch, is_away=False)

    def _tell(self, batch: Sequence[_Waiter], *, is_away: bool) -> None:
        for holds, future in batch:
            if future.done():
                continue
            lacking = self._try(holds)
            if lacking is not None and is_away:
                future.set_exception(AwayError())
            else:
                future.set_result(lacking)

    async def _ask(self, purses: Iterable[Purse], batch: Sequence[_Waiter]) -> None:
        now_s = self._clock()
        wanted: defaultdict[int, int] = defaultdict(int)
        waiting: defaultdict[int, list[str]] = defaultdict(list)
        asked = {id(purse): purse for purse in purses}
        for hold in (hold for holds, _ in batch for hold in holds):
            asked[id(hold.purse)] = hold.purse
            wanted[id(hold.purse)] += hold.want
            waiting[id(hold.purse)].append(hold.request)
        chosen = list(asked.values())
        asks = [
            purse.ask(wanted[id(purse)] + purse.ahead(now_s), tuple(filter(None, waiting[id(purse)])))
            for purse in chosen
        ]
        try:
            grants = await self._table.lease(self._holder, asks)
        except (TableError, StorageUnavailableError) as error:
            if not self.is_away:
                logger.warning("Limits go on with what is leased, the table is away: %s", error)
            self._failed_s = self._clock()
            self._degraded("limits without table")
            raise
        self._failed_s = float("-inf")
        for purse, grant in zip(chosen, grants, strict=True):
            purse.answer(grant, now_s)

    def _top_up(self, holds: Sequence[Hold]) -> None:
        now_s = self._clock()
        for hold in holds:
            if 2 * hold.purse.free < hold.purse.ahead(now_s):
                self._ask_soon(hold.purse)

    def _ask_soon(self, purse: Purse) -> None:
        """Ask in the background, once for all that happens meanwhile."""
        self._due[id(purse)] = purse
        if (self._soon is None or self._soon.done()) and self._clock() - self._failed_s >= PAUSE_S:
            self._soon = asyncio.create_task(self._ask_due(), name="leases")

    async def _ask_due(self) -> None:
        while self._due:
            async with self._asking:
                due, self._due = self._due, {}
                try:
                    await self._turn(due.values())
                except (TableError, StorageUnavailableError):
                    return  # said already; the next turn comes
