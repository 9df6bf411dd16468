"""The clock of the simulated engine: continuous batching of sequences, one step after another."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.model.engines.base import RateWindow
from deployments.model.simulated_settings import SimulatedSettings

RATE_WINDOW_S = 2.0


@dataclass(slots=True, eq=False)
class Sequence:
    """One generation. Times are monotonic seconds, None until they happen."""

    prompt_tokens: int
    output_tokens: int  # it ends after so many
    arrived_s: float
    admitted_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None
    produced: int = 0
    aborted: bool = False
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        """Whether no more tokens will come."""
        return self.aborted or self.finished_s is not None

    @property
    def kv_tokens(self) -> int:
        """KV-cache tokens reserved for it."""
        return self.prompt_tokens + self.output_tokens


class BatchClock:
    """Advances a batch step by step; admits in order of arrival while slots and KV cache last.

    A step lasts `decode_step_s + decode_step_per_sequence_s * running + prefilled tokens /
    prefill_tokens_per_s` and gives each running sequence one token (iteration-level scheduling; Orca,
    Yu et al., 2022).
    """

    def __init__(self, settings: SimulatedSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._kv_used = 0
        self._produced = RateWindow(RATE_WINDOW_S)
        self._wake = asyncio.Event()
        self.stalled = False
        self.progressed_s = now()

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences that are not admitted yet."""
        return len(self._waiting)

    @property
    def is_stepping(self) -> bool:
        """Whether a step is under way."""
        return bool(self._running or self._waiting) and not self.stalled

    @property
    def kv_use(self) -> float:
        """Share of the KV cache in use."""
        return self._kv_used / self._settings.kv_tokens

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second over the last `RATE_WINDOW_S`."""
        return self._produced.per_s(self._now())

    def submit(self, prompt_tokens: int, output_tokens: int) -> Sequence:
        """Queue a sequence.

        Raises:
            ValueError: it can never fit the KV cache.
        """
        if prompt_tokens + output_tokens > self._settings.kv_tokens:
            total, limit = prompt_tokens + output_tokens, self._settings.kv_tokens
            raise ValueError(f"{total} tokens do not fit the KV cache of {limit} tokens.")
        sequence = Sequence(prompt_tokens, output_tokens, self._now())
        if not self._running and not self._waiting:
            self.progressed_s = sequence.arrived_s
        self._waiting.append(sequence)
        self._wake.set()
        return sequence

    def abort(self, sequence: Sequence) -> None:
        """Take a sequence out at once; one that is done stays as it is."""
        if sequence.done:
            return
        sequence.aborted = True
        if sequence in self._running:
            self._running.remove(sequence)
            self._kv_used -= sequence.kv_tokens
        else:
            self._waiting.remove(sequence)
        sequence.progress.set()

    async def run(self) -> None:
        """Step for ever, at the steps' own times; lateness of the event loop is caught up."""
        due_s = self._now()
        while True:
            if self.stalled or not (self._running or self._waiting):
                self._wake.clear()
                await self._wake.wait()
                due_s = max(due_s, self._now())
                continue
            admitted = self._admit(due_s)
            due_s += self._step_s(admitted)
            await asyncio.sleep(max(0.0, due_s - self._now()))
            self._step(due_s)

    def resume(self) -> None:
        """Look again at `stalled`."""
        self._wake.set()

    def _admit(self, at_s: float) -> list[Sequence]:
        admitted = []
        while self._waiting and len(self._running) < self._settings.max_sequences:
            sequence = self._waiting[0]
            if self._kv_used + sequence.kv_tokens > self._settings.kv_tokens:
                break
            sequence.admitted_s = max(at_s, sequence.arrived_s)
            self._kv_used += sequence.kv_tokens
            self._running.append(self._waiting.popleft())
            admitted.append(sequence)
        return admitted

    def _step_s(self, admitted: list[Sequence]) -> float:
        settings = self._settings
        decode_s = settings.decode_step_s + settings.decode_step_per_sequence_s * len(self._running)
        return decode_s + sum(sequence.prompt_tokens for sequence in admitted) / settings.prefill_tokens_per_s

    def _step(self, at_s: float) -> None:
        self.progressed_s = at_s
        self._produced.add(at_s, len(self._running))
        for sequence in self._running:
            sequence.produced += 1
            if sequence.first_token_s is None:
                sequence.first_token_s = at_s
            if sequence.produced >= sequence.output_tokens:
                sequence.finished_s = at_s
                self._kv_used -= sequence.kv_tokens
            sequence.progress.set()
        self._running = [sequence for sequence in self._running if not sequence.done]
