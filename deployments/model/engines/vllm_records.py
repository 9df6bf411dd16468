"""vLLM's stat-logger plug-in: an engine's live numbers, and what it measured of each finished request."""

import time
from collections import defaultdict
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from deployments.engine_record import EngineRecord
from deployments.rate_window import RateWindow

RATE_WINDOW_S = 2.0
PREFIX_WINDOW_S = 60.0


class StatLogger(StatLoggerBase):  # type: ignore[misc]
    """Keeps the last scheduler numbers and the records of finished requests, by vLLM's request id.

    vLLM calls `record` in the replica's event loop after each batch of engine outputs. With `n` > 1 a
    request leaves `n` records under the same id.
    """

    def __init__(self, vllm_config: Any = None, engine_index: int = 0) -> None:
        self.waiting = 0
        self.kv_use = 0.0
        self.progressed_s = time.monotonic()
        self.finished: defaultdict[str, list[EngineRecord]] = defaultdict(list)
        self._tokens = RateWindow(RATE_WINDOW_S)
        self._prefix_queries = RateWindow(PREFIX_WINDOW_S)
        self._prefix_hits = RateWindow(PREFIX_WINDOW_S)

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """Take the numbers of one engine step."""
        self.progressed_s = now_s = time.monotonic()
        if scheduler_stats is not None:
            self.waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            self.kv_use = scheduler_stats.kv_cache_usage
            self._prefix_queries.add(now_s, scheduler_stats.prefix_cache_stats.queries)
            self._prefix_hits.add(now_s, scheduler_stats.prefix_cache_stats.hits)
        if iteration_stats is not None:
            self._tokens.add(now_s, iteration_stats.num_generation_tokens)
            for finished in iteration_stats.finished_requests:
                self.finished[finished.request_id].append(engine_record(finished))

    def log_engine_initialized(self) -> None:
        """Nothing to say: the replica logs that it serves."""

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second over the last `RATE_WINDOW_S`."""
        return self._tokens.per_s(time.monotonic())

    @property
    def prefix_hit_rate(self) -> float:
        """Share of prompt tokens found in the prefix cache, over the last `PREFIX_WINDOW_S`."""
        now_s = time.monotonic()
        queries = self._prefix_queries.total(now_s)
        return self._prefix_hits.total(now_s) / queries if queries else 0.0


def engine_record(finished: Any) -> EngineRecord:
    """Translate vLLM's FinishedRequestStats; the id stays vLLM's."""
    return EngineRecord(
        decision_id=finished.request_id or "",
        prompt_tokens=finished.num_prompt_tokens,
        output_tokens=finished.num_generation_tokens,
        queue_s=finished.queued_time,
        prefill_s=finished.prefill_time,
        ttft_s=finished.queued_time + finished.prefill_time,
        tpot_s=finished.mean_time_per_output_token if finished.num_generation_tokens > 1 else None,
        e2e_s=finished.e2e_latency,
        cached_tokens=finished.num_cached_tokens,
        finish_reason=str(finished.finish_reason),
    )
