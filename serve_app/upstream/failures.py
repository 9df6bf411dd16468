"""What a try that gave no answer says: of the request, of the load, or of the model's own state."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from serve_app.http.errors import CONTEXT_CODE, ApiError, from_upstream, upstream_locked

# What an upstream says of itself, not of the request: no key, no money, no such model, no such path.
_STATES: Final = frozenset({401, 402, 403, 404, 405, 410})
_STATE_CODES: Final = frozenset(
    {
        "account_deactivated",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "insufficient_credits",
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
    }
)
_STATUS_OF_CODE: Final = {
    "billing_hard_limit_reached": 402,
    "insufficient_credits": 402,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    CONTEXT_CODE: 400,
}
_ENGINE_DEAD: Final = "EngineCore encountered an issue"  # vLLM's words, to all requests that it had
_LONGEST_RETRY_S: Final = 86_400.0
OUTRUN: Final = "outrun"  # reason of a try that ends because another one of its request answers


class TryFailedError(Exception):
    """A try gave no token. `code` says why; `gone`: nobody listens; `busy`: it refused for load.

    `refusal` is what the caller of this one model is told, where there is more to say than that it failed.
    `retry_after_s` is when the upstream wants to be asked again, 0 where it does not say. `lost`: the replica
    had the request and was not heard of again, as when it died of it. `dead`: its engine is, it says.
    """

    def __init__(
        self,
        code: str,
        *,
        gone: bool = False,
        busy: bool = False,
        refusal: ApiError | None = None,
        retry_after_s: float = 0.0,
        is_fault: bool = True,
        lost: bool = False,
        dead: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.gone = gone
        self.busy = busy
        self.refusal = refusal
        self.retry_after_s = retry_after_s
        self.dead = dead
        self.lost = lost or dead
        self.is_fault = is_fault and not busy  # of the replica: enough of them eject it

    @property
    def is_lasting(self) -> bool:
        """Whether the same request would fail again."""
        return self.refusal is not None and self.refusal.headers.get("x-should-retry") == "false"


class OutrunError(TryFailedError):
    """Another try of the same request had its first token before."""

    def __init__(self) -> None:
        super().__init__(OUTRUN, is_fault=False)


class ContextExceededError(TryFailedError):
    """The engine counted more tokens than its model's context has."""

    def __init__(self, refusal: ApiError) -> None:
        super().__init__(CONTEXT_CODE, refusal=refusal, is_fault=False)
        self.refusal: ApiError = refusal


def refuses_usage(refusal: ApiError) -> bool:
    """Whether an upstream does not know `stream_options`, by which its usage is asked for."""
    said = f"{refusal.param} {refusal.message}"
    return 400 <= refusal.status < 500 and ("stream_options" in said or "include_usage" in said)


def refused(model: str, status: int, body: bytes, headers: Mapping[str, str]) -> TryFailedError | ApiError:
    """What an answer with another status than 200 means; the caller's own mistake is an ApiError."""
    said = from_upstream(status, body)
    if said.code == CONTEXT_CODE:
        return ContextExceededError(said)
    if said.code in ("replica_draining", "replica_loading", "replica_busy"):  # our own gate
        return TryFailedError(said.code.removeprefix("replica_"), busy=True)
    retry_after_s = _retry_after_s(headers)
    code = f"status:{status}"
    if status in _STATES or said.code in _STATE_CODES:
        said.headers["x-should-retry"] = "false"
        hidden = status in (401, 403) or said.code == "invalid_api_key"
        return TryFailedError(code, refusal=upstream_locked(model) if hidden else said)
    if status == 429:
        said.headers["retry-after"] = str(max(1, round(retry_after_s)))
        return TryFailedError("busy", busy=True, refusal=said, retry_after_s=retry_after_s)
    if status == 413:
        return TryFailedError(code, refusal=said, is_fault=False)  # another model may take it
    if 400 <= status < 500 and status != 408:
        return said
    return TryFailedError(code, retry_after_s=retry_after_s, dead=_ENGINE_DEAD in said.message)


def error_inside(
    model: str, code: str, error: Mapping[str, Any], headers: Mapping[str, str]
) -> TryFailedError:
    """What an error in an answer of status 200 means; it is a failed try, whosever fault it is."""
    status = _status(error)
    found = refused(model, status, orjson.dumps({"error": dict(error)}), headers)
    if isinstance(found, ApiError):
        return TryFailedError(code, refusal=found, is_fault=False)
    if found.code == f"status:{status}":
        return TryFailedError(code, refusal=found.refusal, retry_after_s=found.retry_after_s, dead=found.dead)
    return found


def _status(error: Mapping[str, Any]) -> int:
    """The HTTP status that the error would have had; 502 where it does not say."""
    for name in ("status", "status_code", "code", "type"):
        value = error.get(name)
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else _STATUS_OF_CODE.get(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return 502


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds in `retry-after-ms` or `retry-after`, a number or a date; 0 where there is none."""
    try:
        if (value := headers.get("retry-after-ms")) is not None:
            seconds = float(value) / 1000.0
        elif (value := headers.get("retry-after")) is None:
            return 0.0
        elif value.strip()[:1].isdigit():
            seconds = float(value)
        else:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_S)
