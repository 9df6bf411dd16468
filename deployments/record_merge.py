"""Joins what an engine measured of each part of a request into one record under the decision id."""

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from deployments.engine_record import EngineRecord

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
