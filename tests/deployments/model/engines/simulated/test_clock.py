import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from deployments.model.engines.simulated.clock import BatchClock, Sequence
from deployments.model.simulated_settings import SimulatedSettings


@contextlib.asynccontextmanager
async def running(**settings: float) -> AsyncIterator[BatchClock]:
    clock = BatchClock(SimulatedSettings.model_validate(settings))
    task = asyncio.create_task(clock.run())
    try:
        yield clock
    finally:
        task.cancel()


async def ended(sequence: Sequence) -> None:
    async with asyncio.timeout(60):
        while not sequence.done:
            await sequence.progress.wait()
            sequence.progress.clear()


async def test_a_sequence_takes_prefill_and_one_step_a_token() -> None:
    async with running(decode_step_s=0.01, decode_step_per_sequence_s=0, prefill_tokens_per_s=1000) as clock:
        sequence = clock.submit(prompt_tokens=50, output_tokens=4)
        await ended(sequence)
        assert sequence.first_token_s is not None
        assert sequence.finished_s is not None
        assert sequence.first_token_s - sequence.arrived_s == pytest.approx(0.06, abs=0.03)
        assert sequence.finished_s - sequence.first_token_s == pytest.approx(0.03, abs=1e-6)


async def test_a_fuller_batch_steps_more_slowly() -> None:
    async with running(decode_step_s=0.0, decode_step_per_sequence_s=0.005) as clock:
        alone = clock.submit(1, 5)
        await ended(alone)
        together = [clock.submit(1, 5) for _ in range(4)]
        await asyncio.gather(*map(ended, together))
        assert together[0].finished_s is not None
        assert alone.finished_s is not None
        slow_s, fast_s = together[0].finished_s - together[0].arrived_s, alone.finished_s - alone.arrived_s
        assert slow_s == pytest.approx(4 * fast_s, rel=0.1)


async def test_sequences_beyond_the_slots_wait_in_order() -> None:
    async with running(max_sequences=2, decode_step_s=0.001) as clock:
        sequences = [clock.submit(1, 10) for _ in range(5)]
        await asyncio.sleep(0)
        assert (clock.running, clock.waiting) == (2, 3)
        await asyncio.gather(*map(ended, sequences))
        admitted = [sequence.admitted_s or 0.0 for sequence in sequences]
        assert admitted == sorted(admitted)
        assert admitted[2] > admitted[1]


async def test_sequences_beyond_the_kv_cache_wait() -> None:
    async with running(kv_tokens=100, decode_step_s=0.001) as clock:
        first, second = clock.submit(40, 20), clock.submit(40, 20)
        await asyncio.sleep(0)
        assert (clock.running, clock.waiting) == (1, 1)
        assert clock.kv_use == pytest.approx(0.6)
        await asyncio.gather(ended(first), ended(second))
        assert clock.kv_use == 0.0


async def test_a_sequence_that_can_never_fit_is_refused() -> None:
    async with running(kv_tokens=10) as clock:
        with pytest.raises(ValueError, match="11 tokens do not fit the KV cache of 10 tokens"):
            clock.submit(10, 1)


@pytest.mark.parametrize("slots", [1, 2])
async def test_an_abort_frees_slot_and_cache_at_once(slots: int) -> None:
    async with running(max_sequences=slots, decode_step_s=0.001) as clock:
        sequences = [clock.submit(5, 1000), clock.submit(5, 1000)]
        await asyncio.sleep(0.01)
        for sequence in sequences:
            clock.abort(sequence)
        assert (clock.running, clock.waiting, clock.kv_use) == (0, 0, 0.0)
        assert all(sequence.aborted for sequence in sequences)
        after = clock.submit(5, 2)
        await ended(after)
        assert not after.aborted


async def test_a_stalled_clock_makes_no_step_until_it_resumes() -> None:
    async with running(decode_step_s=0.001) as clock:
        clock.stalled = True
        sequence = clock.submit(1, 3)
        await asyncio.sleep(0.05)
        assert sequence.produced == 0
        clock.stalled = False
        clock.resume()
        await ended(sequence)
        assert sequence.produced == 3
