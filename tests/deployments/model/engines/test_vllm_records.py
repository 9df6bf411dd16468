import time
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.vllm
stats = pytest.importorskip("vllm.v1.metrics.stats", reason="vLLM is not installed")


@pytest.fixture(name="finish")
def finish_fixture() -> Callable[..., object]:
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


def test_finished_requests_become_records(finish: Callable[..., object]) -> None:
    from deployments.model.engines.vllm_records import StatLogger

    logger, iteration = StatLogger(), stats.IterationStats()
    iteration.finished_requests = [finish("chatcmpl-a", 9), finish("chatcmpl-a", 1)]
    logger.record(None, iteration)
    first, second = logger.finished["chatcmpl-a"]
    assert (first.prompt_tokens, first.output_tokens, first.cached_tokens) == (11, 9, 4)
    assert (first.queue_s, first.prefill_s, first.ttft_s, first.tpot_s) == (0.25, 0.5, 0.75, 0.01)
    assert (first.e2e_s, first.finish_reason) == (2.0, "stop")
    assert second.tpot_s is None  # one token has no time between tokens


def test_scheduler_numbers_are_kept() -> None:
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


def test_tokens_per_second_cover_the_window() -> None:
    from deployments.model.engines.vllm_records import RATE_WINDOW_S, StatLogger

    logger, iteration = StatLogger(), stats.IterationStats()
    iteration.num_generation_tokens = 30
    logger.record(None, iteration)
    logger.record(None, iteration)
    assert logger.tokens_per_s == pytest.approx(60 / RATE_WINDOW_S)


def test_the_logger_is_what_vllm_accepts() -> None:
    from vllm.v1.metrics.loggers import StatLoggerBase

    from deployments.model.engines.vllm_records import StatLogger

    assert issubclass(StatLogger, StatLoggerBase)
