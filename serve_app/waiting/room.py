"""Requests wait here, in the ingress, once all slots of their model are taken; bounded, and never in vain."""

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from deployments.keys.entries import PRIORITIES, Priority
from serve_app.http.errors import ApiError, overloaded
from serve_app.metrics import IngressMetrics
from serve_app.waiting.line import FairLine
from serve_app.waiting.pace import Pace

_LONGEST_S: Final = 30.0  # that a refused request is told to wait
_MOST_PROMISED: Final = 1_000  # keys


class WaitingCounter(Protocol):
    """Where others learn how many wait: the observations of dispatch, and the table."""

    def count_waiting(self, model: str, change: int) -> None:
        """So many more wait for `model`."""


@dataclass(slots=True)
class RoomSettings:
    """`per_slot` bounds the requests of a model that wait or run; without replicas they wait `silent_s`."""

    per_slot: float
    silent_s: float


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks for a place, and what for."""

    model: str
    key: str
    weight: float
    priority: Priority
    cost_s: float  # seconds of a slot that the answer is predicted to take
    deadline_s: float  # loop time


class Place:
    """A request's place at a model: it may wait, then it holds a slot, until it leaves."""

    __slots__ = (
        "_queue",
        "cost_s",
        "deadline_s",
        "held_s",
        "in_line",
        "is_counted",
        "key",
        "number",
        "since_s",
        "turn",
        "visit",
        "weight",
    )

    def __init__(self, queue: "ModelQueue", visit: Visit, number: int, now_s: float) -> None:
        self.visit = visit
        self.key, self.weight, self.cost_s = visit.key, visit.weight, visit.cost_s
        self.deadline_s = visit.deadline_s
        self.number = number
        self.since_s = now_s
        self.held_s: float | None = None  # loop time from which on it holds a slot
        self.turn: asyncio.Future[None] | None = None  # where it has to wait for that
        self.in_line = self.is_counted = False
        self._queue: ModelQueue | None = queue

    async def wait(self) -> float:
        """Until it holds a slot, after so many seconds.

        Raises TimeoutError at the deadline, ApiError where it had to make room for another.
        """
        queue, turn = self._queue, self.turn
        assert queue is not None, "it has not left"
        assert turn is not None, "it waits"
        try:
            async with asyncio.timeout_at(self.deadline_s):
                await turn
        except TimeoutError:
            queue.shed(self.visit.priority, "expired")
            raise
        finally:
            queue.stopped_waiting(self)
        return queue.waited(self)

    def leave(self) -> None:
        """Give back what it holds, or wait no more. Once is enough."""
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.left(self)


class ModelQueue:
    """The places at one model through this ingress."""

    def __init__(self, room: "WaitingRoom", model: str) -> None:
        self.lines: dict[Priority, FairLine[Place]] = {priority: FairLine() for priority in PRIORITIES}
        self.held = 0
        self._room, self._model = room, model
        self._numbers = 0
        self._pace = Pace()
        self._gone_s: float | None = None  # since when no replica can be asked
        self._promised_s: dict[
            str, float
        ] = {}  # key: loop time until which slots are told to who was refused

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(line.count for line in self.lines.values())

    @property
    def has_slot(self) -> bool:
        """Whether one more need not wait."""
        return not self.waiting and self.held < self._room.part(self._model)

    def enter(self, visit: Visit) -> Place:
        """A place, with a slot where one is free. Raises ApiError (429) where no more may wait."""
        now_s = asyncio.get_running_loop().time()
        part = self._room.part(self._model)
        waiting = self.waiting
        self._numbers += 1
        place = Place(self, visit, self._numbers, now_s)
        if waiting and self.held < part:
            self.pump()
            waiting = self.waiting
        if not waiting and (self.held < part or not part):
            self.lines[visit.priority].serve(place)
            self.held, place.held_s = self.held + 1, now_s
            return place
        self._let_in(visit, part, waiting, now_s)
        place.turn = asyncio.get_running_loop().create_future()
        self.lines[visit.priority].add(place)
        place.in_line = place.is_counted = True
        self._room.view.count_waiting(self._model, 1)
        return place

    def pump(self) -> None:
        """Give the slots that are free to those who wait: interactive requests first."""
        part = self._room.part(self._model)
        if not part and not self._is_gone():
            return
        if part:
            self._gone_s = None
        now_s = asyncio.get_running_loop().time()
        for line in self.lines.values():
            while line.count and (self.held < part or not part):
                self._give(line, line.take(now_s, self._each_s(line, part)))

    def left(self, place: Place) -> None:
        """A place is given back."""
        line = self.lines[place.visit.priority]
        self.stopped_waiting(place)
        if place.in_line:
            place.in_line = False
            line.remove(place)
        if place.held_s is None:
            return
        took_s = asyncio.get_running_loop().time() - place.held_s
        line.ended(place, took_s)
        self._pace.ended(place.cost_s, took_s)
        self.held -= 1
        if self.waiting:
            self.pump()

    def stopped_waiting(self, place: Place) -> None:
        """It waits no more, for whatever reason."""
        if place.is_counted:
            place.is_counted = False
            self._room.view.count_waiting(self._model, -1)

    def waited(self, place: Place) -> float:
        """Seconds that a place has waited that holds a slot now."""
        assert place.held_s is not None, "it holds a slot"
        seconds = place.held_s - place.since_s
        self._room.metrics.waited(self._model, place.visit.priority, seconds)
        return seconds

    def shed(self, priority: Priority, reason: str) -> None:
        """Count a request that got no slot."""
        self._room.metrics.shed(self._model, priority, reason)

    def _give(self, line: FairLine[Place], place: Place) -> None:
        assert place.turn is not None, "it waits"
        place.in_line = False
        if place.turn.done():  # cancelled: its task has not run since
            line.ended(place, 0.0)
            return
        self.held, place.held_s = self.held + 1, asyncio.get_running_loop().time()
        place.turn.set_result(None)

    def _is_gone(self) -> bool:
        """Whether no replica could be asked for so long that those who wait are told: one may only pause."""
        now_s = asyncio.get_running_loop().time()
        if self._gone_s is None:
            self._gone_s = now_s
        return now_s - self._gone_s >= self._room.settings.silent_s

    def _let_in(self, visit: Visit, part: int, waiting: int, now_s: float) -> None:
        """Whether one more may wait. Raises ApiError.

        While there are places everyone may. Then a batch request makes room, the newest of the key with
        most of them; an interactive one is never sent away: who has less than its share of the places
        gets one more than there are.
        """
        line, batch = self.lines[visit.priority], self.lines["batch"]
        wait_s = self._predicted_s(visit, line, part)
        if now_s + wait_s > visit.deadline_s:
            raise self._refusal(visit, "deadline", wait_s)
        most = part * (self._room.settings.per_slot - 1.0)
        if waiting < most:
            return
        if visit.priority == "batch":
            given_up = batch.last_of_greediest(visit.key, visit.weight)
        else:
            given_up = batch.last_of_greediest("", math.inf)
        if given_up is not None:
            self._send_away(given_up, part)
        elif visit.priority == "batch" or most <= 0 or not line.has_share(visit.key, visit.weight, most):
            raise self._refusal(visit, "full", wait_s)

    def _send_away(self, place: Place, part: int) -> None:
        line, turn = self.lines["batch"], place.turn
        assert turn is not None, "it waits"
        line.remove(place)
        place.in_line = False
        if not turn.done():
            wait_s = self._predicted_s(place.visit, line, part)
            turn.set_exception(self._refusal(place.visit, "made room", wait_s))

    def _each_s(self, line: FairLine[Place], part: int) -> float:
        """Seconds after which one more of `line` is served while all slots are taken; 0: nothing is known."""
        mean_s = self._pace.of(line.work_s / line.count) if line.count else self._pace.mean_s
        return mean_s / max(part, 1)

    def _predicted_s(self, visit: Visit, line: FairLine[Place], part: int) -> float:
        """How long one more request would wait; 0 where nothing is known yet."""
        before = self.lines["interactive"].count if visit.priority == "batch" else 0
        return (before + line.ahead(visit.key, visit.weight) + 1) * self._each_s(line, part)

    def _refusal(self, visit: Visit, reason: str, wait_s: float) -> ApiError:
        """429, with the time at which there is a slot for one more: those who wait now have been served then,
        and those of the key who were refused before and come again as they were told."""
        self.shed(visit.priority, reason)
        now_s = asyncio.get_running_loop().time()
        if len(self._promised_s) >= _MOST_PROMISED:
            self._promised_s = {key: at_s for key, at_s in self._promised_s.items() if at_s > now_s}
        wait_s = min(max(wait_s, self._promised_s.get(visit.key, 0.0) - now_s), _LONGEST_S)
        line = self.lines[visit.priority]
        each_s = self._each_s(line, self._room.part(self._model))
        self._promised_s[visit.key] = now_s + wait_s + each_s / line.share(visit.key, visit.weight)
        message = f"No capacity is left for '{self._model}': {self.waiting} requests wait for it here."
        if reason == "deadline":
            message = f"'{self._model}' has no slot for this request within its deadline."
        return overloaded(message, "overloaded", math.ceil(wait_s))


class WaitingRoom:
    """The queues of one ingress, one a model. Who finds a slot free takes it at once, without waiting."""

    def __init__(
        self,
        view: WaitingCounter,
        part: Callable[[str], int],
        metrics: IngressMetrics,
        settings: RoomSettings,
    ) -> None:
        """`part` gives the slots of a model that this ingress may use; see Parts."""
        self.view, self.part, self.metrics, self.settings = view, part, metrics, settings
        self._queues: dict[str, ModelQueue] = {}

    def enter(self, visit: Visit) -> Place:
        """A place at a model, which has to wait where `turn` is set. Raises ApiError (429)."""
        queue = self._queues.get(visit.model)
        if queue is None:
            queue = self._queues[visit.model] = ModelQueue(self, visit.model)
        return queue.enter(visit)

    def has_slot(self, model: str) -> bool:
        """Whether one more request of a model that has requests here need not wait."""
        queue = self._queues.get(model)
        return queue is not None and queue.has_slot

    def pump(self) -> None:
        """Look whether there are more slots than before: another snapshot, or time, may have brought them."""
        for queue in self._queues.values():
            if queue.waiting:
                queue.pump()

    def backlog(self, model: str) -> int:
        """Requests that wait here for `model`."""
        queue = self._queues.get(model)
        return 0 if queue is None else queue.waiting

    def depths(self) -> Iterator[tuple[str, Priority, int]]:
        """How many wait, by model and priority."""
        for model, queue in self._queues.items():
            for priority, line in queue.lines.items():
                yield model, priority, line.count
