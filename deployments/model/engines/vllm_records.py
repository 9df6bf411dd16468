"""vLLM's stat-logger plug-in: an engine's live numbers, and what it measured of each finished request."""

import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from deployments.model.engines.base import RateWindow
from deployments.records.records import EngineRecord

PREFIX = re.compile(r"^(?:chatcmpl-|cmpl-|embd-|resp_)")
PART = re.compile(r"[-_]\d+$")


def decision_id(request_id: str, known: Collection[str]) -> str:
    """The decision id in vLLM's request id: `chatcmpl-<id>`, `cmpl-<id>-0`, `<id>_0` and the like.

    `known` are the ids that are being served: an id that itself ends like a part number is not cut.
    """
    bare = PREFIX.sub("", request_id)
    cut = PART.sub("", bare)
    return bare if bare in known or cut not in known else cut


def merge(records: Iterable[EngineRecord], decision: str) -> EngineRecord:
    """One record of a request's choices: tokens of all, the times of the first to start and the last to end.

    The prompt is counted once, as the engine computes it once for all choices.
    """
    parts = list(records)
    outputs = sum(part.output_tokens for part in parts)
    slowest = max(parts, key=lambda part: part.e2e_s or 0.0)
    return replace(
        slowest,
        decision_id=decision,
        prompt_tokens=max(part.prompt_tokens for part in parts),
        output_tokens=outputs,
        queue_s=_least(part.queue_s for part in parts),
        prefill_s=_least(part.prefill_s for part in parts),
        ttft_s=_least(part.ttft_s for part in parts),
        cached_tokens=min(part.cached_tokens for part in parts),
    )


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


RATE_WINDOW_S = 2.0
PREFIX_WINDOW_S = 60.0
FORGETTING = 0.999  # of the longest step, with each one that follows


class StatLogger(StatLoggerBase):  # type: ignore[misc]
    """Keeps the last scheduler numbers and the records of finished requests, by vLLM's request id.

    vLLM calls `record` in the replica's event loop after each batch of engine outputs. With `n` > 1 a
    request leaves `n` records under the same id.
    """

    def __init__(self, vllm_config: Any = None, engine_index: int = 0) -> None:
        self.waiting = 0
        self.kv_use = 0.0
        self.progressed_s = time.monotonic()
        self.longest_step_s = 0.0
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
        now_s = time.monotonic()
        self.longest_step_s = max(now_s - self.progressed_s, self.longest_step_s * FORGETTING)
        self.progressed_s = now_s
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
