import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.model.engines.vllm_records import decision_id, merge
from deployments.records.records import EngineRecord


@pytest.fixture(name="stats")
def stats_fixture() -> Any:
    return pytest.importorskip("vllm.v1.metrics.stats", reason="vLLM is not installed")


@pytest.fixture(name="finish")
def finish_fixture(stats: Any) -> Callable[..., object]:
    from vllm.v1.engine import FinishReason

    def finish(request_id: str, tokens: int) -> object:
        return stats.FinishedRequestStats(
            finish_reason=FinishReason.STOP,
            request_id=request_id,
            e2e_latency=2.0,
            num_prompt_tokens=11,
            num_generation_tokens=tokens,
            queued_time=0.25,
            prefill_time=0.5,
            mean_time_per_output_token=0.01,
            num_cached_tokens=4,
        )

    return finish


@pytest.mark.vllm
def test_finished_requests_become_records(stats: Any, finish: Callable[..., object]) -> None:
    from deployments.model.engines.vllm_records import StatLogger

    logger, iteration = StatLogger(), stats.IterationStats()
    iteration.finished_requests = [finish("chatcmpl-a", 9), finish("chatcmpl-a", 1)]
    logger.record(None, iteration)
    first, second = logger.finished["chatcmpl-a"]
    assert (first.prompt_tokens, first.output_tokens, first.cached_tokens) == (11, 9, 4)
    assert (first.queue_s, first.prefill_s, first.ttft_s, first.tpot_s) == (0.25, 0.5, 0.75, 0.01)
    assert (first.e2e_s, first.finish_reason) == (2.0, "stop")
    assert second.tpot_s is None  # one token has no time between tokens


@pytest.mark.vllm
def test_scheduler_numbers_are_kept(stats: Any) -> None:
    from deployments.model.engines.vllm_records import StatLogger

    logger, began_s = StatLogger(), time.monotonic()
    prefix = stats.PrefixCacheStats(requests=1, queries=200, hits=50)
    logger.record(
        stats.SchedulerStats(
            num_waiting_reqs=3, num_skipped_waiting_reqs=1, kv_cache_usage=0.4, prefix_cache_stats=prefix
        ),
        None,
    )
    assert (logger.waiting, logger.kv_use) == (4, 0.4)
    assert logger.prefix_hit_rate == pytest.approx(0.25)
    assert logger.progressed_s >= began_s


@pytest.mark.vllm
def test_tokens_per_second_cover_the_window(stats: Any) -> None:
    from deployments.model.engines.vllm_records import RATE_WINDOW_S, StatLogger

    logger, iteration = StatLogger(), stats.IterationStats()
    iteration.num_generation_tokens = 30
    logger.record(None, iteration)
    logger.record(None, iteration)
    assert logger.tokens_per_s == pytest.approx(60 / RATE_WINDOW_S)


@pytest.mark.vllm
def test_the_logger_is_what_vllm_accepts(stats: Any) -> None:
    from vllm.v1.metrics.loggers import StatLoggerBase

    from deployments.model.engines.vllm_records import StatLogger

    assert issubclass(StatLogger, StatLoggerBase)


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [
        ("chatcmpl-ab12", "ab12"),
        ("cmpl-ab12-0", "ab12"),
        ("embd-ab12-3", "ab12"),
        ("ab12_0", "ab12"),
        ("resp_ab12_0", "ab12"),
        ("chatcmpl-x-7", "x-7"),
        ("cmpl-x-7-0", "x-7"),
    ],
)
def test_the_decision_id_is_found_in_the_engines_id(request_id: str, expected: str) -> None:
    assert decision_id(request_id, {"ab12", "x-7"}) == expected


def test_the_id_of_a_request_that_nobody_dispatched_is_kept() -> None:
    assert decision_id("cmpl-a-0", set()) == "a-0"


def test_choices_merge_into_one_record() -> None:
    early = EngineRecord("r", 10, 5, queue_s=0.1, prefill_s=0.2, ttft_s=0.3, e2e_s=1.0, cached_tokens=8)
    late = EngineRecord("r", 10, 7, queue_s=0.2, prefill_s=0.3, ttft_s=0.5, e2e_s=2.0, cached_tokens=0)
    merged = merge([early, late], "decision")
    assert merged == EngineRecord(
        "decision", 10, 12, queue_s=0.1, prefill_s=0.2, ttft_s=0.3, e2e_s=2.0, cached_tokens=0
    )


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_no_output_token_is_lost(counts: list[int]) -> None:
    records = [EngineRecord("r", 3, count, e2e_s=float(count)) for count in counts]
    assert merge(records, "d").output_tokens == sum(counts)
