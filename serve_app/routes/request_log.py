"""One JSON line a request, where the operator asked for it: who, which model, how it went. No text."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging.handlers import MemoryHandler, RotatingFileHandler
from pathlib import Path
from typing import Final

import orjson

from deployments.records.records import OutcomeRecord
from serve_app.metrics import refused_label, requested_label
from serve_app.upstream.job import Job

WAITING: Final = 1_000  # lines at most, then they are written at once

Line = Mapping[str, object]


def file_beside_serves() -> RotatingFileHandler:
    """A new file beside this replica's own log, in Ray's log folder, rotated as Ray Serve rotates that one.

    Raises RuntimeError in a process that is no replica.
    """
    for handler in logging.getLogger("ray.serve").handlers:
        target = handler.target if isinstance(handler, MemoryHandler) else handler
        if isinstance(target, RotatingFileHandler):
            path = Path(target.baseFilename)
            return RotatingFileHandler(
                path.with_name(f"requests_{path.name}"),
                maxBytes=target.maxBytes,
                backupCount=target.backupCount,
                encoding="utf-8",
                delay=True,
            )
    raise RuntimeError("Ray Serve keeps no log file in this process, beside which requests could be logged.")


class RequestLog:
    """Lines wait in memory until `flush`, about once a second: no request waits for a disk."""

    def __init__(self, open_file: Callable[[], logging.Handler] = file_beside_serves) -> None:
        self._open_file = open_file
        self._handler: MemoryHandler | None = None

    @property
    def is_on(self) -> bool:
        """Whether lines are kept."""
        return self._handler is not None

    def switch(self, on: bool) -> None:
        """Begin or end. Raises RuntimeError where there is no place for the file, and changes nothing."""
        if on and self._handler is None:
            self._handler = MemoryHandler(WAITING, target=self._open_file())
        elif not on:
            self.close()

    def write(self, line: Line) -> None:
        """Keep a line. Does nothing while it is off."""
        if self._handler is not None:
            text = orjson.dumps(line).decode()
            self._handler.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))

    def flush(self) -> None:
        """Write what waits."""
        if self._handler is not None:
            self._handler.flush()

    def close(self) -> None:
        """Write what waits, and end."""
        handler, self._handler = self._handler, None
        if handler is not None:
            target = handler.target
            handler.close()
            if target is not None:
                target.close()


def finished_line(job: Job, record: OutcomeRecord, operation: str) -> Line:
    """A request that had its model chosen."""
    outcome, decided, result = record.outcome, job.dispatch.record, job.result
    return {
        "at": _time(record.finished_s),
        "id": record.decision_id,
        "key": job.key.name,
        "team": decided.team,
        "operation": operation,
        "requested": requested_label(job.call.model, record.model),
        "profile": decided.profile,
        "model": record.model,
        "replica": record.replica,
        "policy": decided.policy,
        "stream": job.call.stream,
        "status": outcome.status.value,
        "http_status": result.http_status,
        "error_code": outcome.error_code,
        "attempts": outcome.attempts,
        "hedges": outcome.hedges,
        "fallbacks": record.fallbacks,
        "ttft_s": outcome.ttft_s,
        "tpot_s": outcome.tpot_s,
        "e2e_s": outcome.e2e_s,
        "ingress_s": record.ingress_s,
        "prompt_tokens": outcome.prompt_tokens,
        "output_tokens": outcome.output_tokens,
        "tokens_estimated": outcome.tokens_estimated,
        "cost_usd": outcome.cost_usd,
    }


def refused_line(
    at_s: float, operation: str, requested: str, key: str | None, http_status: int, error_code: str
) -> Line:
    """A request that was refused before a model was chosen; `key` None: it had none that holds."""
    return {
        "at": _time(at_s),
        "key": key,
        "operation": operation,
        "requested": refused_label(requested),
        "status": "rejected",
        "http_status": http_status,
        "error_code": error_code,
    }


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
