"""The interface that the three engines present to a model replica."""

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

from starlette.types import ASGIApp

from deployments.model.settings import ModelSettings
from deployments.records.records import EngineRecord


class RateWindow:
    """Sums what was added during the last `window_s`. Times must not go backwards."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._entries: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def add(self, now_s: float, value: float) -> None:
        """Count `value` at `now_s`."""
        self._entries.append((now_s, value))
        self._total += value
        self._forget(now_s)

    def total(self, now_s: float) -> float:
        """The sum over the window that ends at `now_s`."""
        self._forget(now_s)
        return self._total if self._entries else 0.0

    def per_s(self, now_s: float) -> float:
        """The sum over the window, per second."""
        return self.total(now_s) / self.window_s

    def _forget(self, now_s: float) -> None:
        while self._entries and self._entries[0][0] < now_s - self.window_s:
            self._total -= self._entries.popleft()[1]
        if not self._entries:
            self._total = 0.0


PATIENCE = 20.0  # with the default limit longer than any request may take
LAST_PATIENCE = 120.0  # of a model's last replica: with the default limit an hour
STEPS = 10.0  # times its longest step of late, which an engine always has


class EngineError(RuntimeError):
    """The engine cannot serve; the message says why."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine is doing now. `progressed_s` is the monotonic time of its last step."""

    running: int = 0
    waiting: int = 0
    slots: int = 1  # sequences it can run at once
    kv_use: float = 0.0  # [0, 1]
    kv_tokens: int = 0  # that the KV cache holds; 0: not known
    prefix_hit_rate: float = 0.0  # share of prompt tokens found in the prefix cache
    tokens_per_s: float = 0.0  # output tokens, over the last seconds
    gpu_share: float = 0.0  # [0, 1]
    progressed_s: float = 0.0
    is_computing: bool = False  # its processes or devices work, such as on a step that takes long
    longest_step_s: float = 0.0  # of late: as long a step is to be expected again

    def is_stalled(self, now_s: float, limit_s: float, patience: float = PATIENCE) -> bool:
        """Whether requests are in the engine and it made no step for `limit_s`.

        A step under way is no stall: a long prompt may take that long, and would take the next replica too.
        One that never ends is: computing buys `patience` times the limit. An engine of which long steps are
        known has the time for several of them, computing or not: on a full machine its processes wait.
        """
        limit_s *= patience if self.is_computing else 1.0
        return self._is_busy and now_s - self.progressed_s > max(limit_s, STEPS * self.longest_step_s)

    def step_s(self, now_s: float) -> float:
        """How long the step under way takes so far; 0 where nothing is computed."""
        return max(0.0, now_s - self.progressed_s) if self._is_busy and self.is_computing else 0.0

    @property
    def _is_busy(self) -> bool:
        return self.running + self.waiting > 0


class Engine(ABC):
    """One model's engine: an OpenAI-compatible ASGI app, its live numbers and its finished requests.

    A request carries its decision id in the header `x-request-id`; the finished record carries it back.
    """

    @abstractmethod
    async def start(self) -> ASGIApp:
        """Load the model and return the app that serves it.

        Raises:
            EngineError: the model cannot be loaded.
        """

    @abstractmethod
    def stats(self) -> EngineStats:
        """The live numbers."""

    @abstractmethod
    def take_finished(self) -> list[EngineRecord]:
        """The requests that finished since the last call; each is handed out once."""

    @abstractmethod
    async def check_health(self) -> None:
        """Return if the engine is alive.

        Raises:
            EngineError: it is not; the replica must be replaced.
        """

    def reconfigure(self, settings: ModelSettings) -> None:
        """Apply what an engine reads of a model's live settings; called before `start` and at each change.

        Raises:
            ValueError: faults for an engine that has none to switch.
        """
        if settings.faults is not None:
            raise ValueError("'faults' goes with engine 'simulated' only: take it out of user_config.")

    @abstractmethod
    async def stop(self) -> None:
        """Free what the engine holds. Called once, after the last request."""
