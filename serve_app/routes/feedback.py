"""POST /v1/feedback: votes, by key or by the one-shot token of an answer."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deployments.records.graded import PREFIX
from deployments.records.records import FeedbackRecord
from deployments.steady_clock import wall_s
from deployments.table.api import TableApi
from deployments.table.errors import StorageUnavailableError, TableError
from serve_app.access.feedback_tokens import FeedbackTokenError
from serve_app.body.strict_json import parse
from serve_app.http.errors import ApiError, bad_request, unauthorized, unavailable
from serve_app.http.request import Request, Send, send_json
from serve_app.routes.endpoint import Endpoint

BROWSER_METRIC: Final = "browser"  # every vote by token lands here, so one token has one effect
DEFAULT_METRIC: Final = "quality"
VERDICT_STATUS: Final[Mapping[str, int]] = {
    "new": 200,
    "same": 200,
    "conflict": 409,
    "unknown": 404,
    "cancelled": 409,
}
MAX_CORRECTION_CHARACTERS: Final = 100_000
MOST_BYTES: Final = 1024 * 1024  # of a vote's body: a correction with every character escaped

_FORMS: Final = ("score", "thumb", "correction", "comparison")
_FIELDS: Final = frozenset({"decision_id", "metric", "token", *_FORMS})
_DECISION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
_METRIC: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
_THUMBS: Final[Mapping[str, float]] = {"up": 1.0, "down": 0.0}
_PREFERENCES: Final[Mapping[str, float]] = {"this": 1.0, "tie": 0.5, "other": 0.0}


class FeedbackError(ValueError):
    """A vote that cannot be taken; `param` names the field at fault."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Feedback:
    """One vote as sent; `detail` is the hash of a correction or the id of the decision compared with."""

    decision_id: str
    metric: str
    score: float
    detail: str | None = None
    token: str | None = None

    def record(self, key_id: str, received_s: float) -> FeedbackRecord:
        """The durable record. A vote by token is kept under 'browser', with its own metric as the detail."""
        metric, detail = self.metric, self.detail
        if self.token is not None:
            metric, detail = (
                BROWSER_METRIC,
                self.metric if self.detail is None else f"{self.metric}={self.detail}",
            )
        return FeedbackRecord(self.decision_id, key_id, metric, self.score, received_s, detail)


def parse_feedback(body: object) -> Feedback:
    """The vote in a JSON body: `decision_id`, optional `metric` and `token`, and exactly one form.

    Forms: `score` in [0, 1]; `thumb` "up" or "down"; `correction`, the text that would have been right
    (only its hash is kept, it counts as 0); `comparison` {"decision_id", "preferred"} with "this", "other"
    or "tie".
    Raises FeedbackError, whose `param` is the field at fault. No message repeats what was sent.
    """
    if not isinstance(body, Mapping):
        raise FeedbackError("body", "The body must be a JSON object.")
    for name in body:
        if name not in _FIELDS:
            param = str(name)[:64]
            raise FeedbackError(param, f"Unknown field '{param}'. Known: {', '.join(sorted(_FIELDS))}.")
    decision_id = _decision_id(body.get("decision_id"), "decision_id")
    given = [form for form in _FORMS if form in body]
    if len(given) != 1:
        raise FeedbackError(
            given[1] if given else "score", f"Give exactly one of {', '.join(_FORMS)}; got {len(given)}."
        )
    score, detail = _READERS[given[0]](body[given[0]])
    if detail == decision_id:
        raise FeedbackError("comparison", "A decision cannot be compared with itself.")
    return Feedback(
        decision_id, _metric(body.get("metric", DEFAULT_METRIC)), score, detail, _token(body.get("token"))
    )


def _decision_id(value: object, param: str) -> str:
    if not isinstance(value, str) or not _DECISION_ID.fullmatch(value):
        raise FeedbackError(param, f"'{param}' must be the id from the x-fastserve-decision-id header.")
    return value


def _metric(value: object) -> str:
    if not isinstance(value, str) or not _METRIC.fullmatch(value):
        raise FeedbackError(
            "metric", "'metric' must be a letter and up to 63 letters, digits, '_', '.' or '-'."
        )
    if value.startswith(PREFIX):
        raise FeedbackError("metric", f"'metric' must not begin with '{PREFIX}': the pool grades under that.")
    if value == BROWSER_METRIC:
        raise FeedbackError(
            "metric", f"'metric' must not be '{BROWSER_METRIC}': it is reserved for votes by token."
        )
    return value


def _token(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise FeedbackError("token", "'token' must be the text from the x-fastserve-feedback-token header.")
    return value


def _score(value: object) -> tuple[float, None]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # type: ignore[operator]  # NaN fails the comparison
        raise FeedbackError("score", "'score' must be a number from 0 to 1.")
    return abs(float(value)), None  # type: ignore[arg-type]  # abs: -0.0 and 0 are the same vote


def _thumb(value: object) -> tuple[float, None]:
    if not isinstance(value, str) or value not in _THUMBS:
        raise FeedbackError("thumb", "'thumb' must be 'up' or 'down'.")
    return _THUMBS[value], None


def _correction(value: object) -> tuple[float, str]:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_CORRECTION_CHARACTERS:
        raise FeedbackError(
            "correction",
            f"'correction' must be a text of at most {MAX_CORRECTION_CHARACTERS} characters, not empty.",
        )
    return 0.0, hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _comparison(value: object) -> tuple[float, str]:
    if not isinstance(value, Mapping) or set(value) != {"decision_id", "preferred"}:
        raise FeedbackError("comparison", "'comparison' must have exactly 'decision_id' and 'preferred'.")
    preferred = value["preferred"]
    if not isinstance(preferred, str) or preferred not in _PREFERENCES:
        raise FeedbackError("comparison.preferred", "'preferred' must be 'this', 'other' or 'tie'.")
    return _PREFERENCES[preferred], _decision_id(value["decision_id"], "comparison.decision_id")


_READERS: Final[Mapping[str, Callable[[object], tuple[float, str | None]]]] = {
    "score": _score,
    "thumb": _thumb,
    "correction": _correction,
    "comparison": _comparison,
}


TOKEN_HEADER = b"x-fastserve-feedback-token"

_MESSAGES = {
    "conflict": ("This decision has another score for this metric already.", "feedback_conflict"),
    "unknown": ("There is no such decision.", "decision_not_found"),
    "cancelled": ("The request was cancelled, its answer cannot be judged.", "decision_cancelled"),
}


def body_schema() -> dict[str, Any]:
    """The body that the route takes, in words of JSON Schema."""
    decision: dict[str, Any] = {"type": "string", "pattern": f"^{_DECISION_ID.pattern}$"}
    forms = {
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "thumb": {"enum": list(_THUMBS)},
        "correction": {"type": "string", "pattern": r"\S"},
        "comparison": {
            "type": "object",
            "required": ["decision_id", "preferred"],
            "properties": {"decision_id": decision, "preferred": {"enum": list(_PREFERENCES)}},
            "additionalProperties": False,
        },
    }
    metric = {"type": "string", "pattern": f"^{_METRIC.pattern}$", "not": {"const": BROWSER_METRIC}}
    return {
        "type": "object",
        "required": ["decision_id"],
        "properties": {
            "decision_id": decision,
            "metric": metric,
            "token": {"type": ["string", "null"]},
            **forms,
        },
        "oneOf": [{"required": [form]} for form in _FORMS],
        "additionalProperties": False,
    }


class FeedbackApi:
    """The route; a vote is durable before it is acknowledged."""

    def __init__(self, endpoint: Endpoint, table: TableApi) -> None:
        self._endpoint = endpoint
        self._table = table

    async def vote(self, request: Request, send: Send) -> None:
        """One vote. Raises ApiError: 400 with `param`, 401, 404, 409, 503 while the store is away."""
        token = request.headers.get(TOKEN_HEADER)
        key_id = "" if token is not None else self._endpoint.authorize(request, "feedback").key_id
        request.require_json()
        body = parse(request.body)
        if token is not None:
            body.setdefault("token", token.decode("latin-1"))
        try:
            feedback = parse_feedback(body)
        except FeedbackError as error:
            raise bad_request(str(error), error.param) from None
        if feedback.token is not None:
            key_id = self._key_behind(feedback.token, feedback.decision_id)
        verdict = await self._store(feedback.record(key_id, wall_s()))
        status = VERDICT_STATUS[verdict]
        if status != 200:
            message, code = _MESSAGES[verdict]
            raise ApiError(status, message, code=code, param="decision_id")
        await send_json(send, {"object": "feedback", "decision_id": feedback.decision_id, "status": verdict})

    def _key_behind(self, token: str, decision_id: str) -> str:
        tokens = self._endpoint.feedback_tokens
        if tokens is None:
            raise unavailable("Votes by token wait for the table.", "storage_unavailable")
        try:
            return tokens.check(token, decision_id)
        except FeedbackTokenError as error:
            problem = unauthorized()
            problem.message, problem.code = str(error), "invalid_feedback_token"
            raise problem from None

    async def _store(self, record: FeedbackRecord) -> str:
        try:
            return await self._table.feedback(record)
        except (StorageUnavailableError, TableError):
            raise unavailable("The vote could not be stored; send it again.", "storage_unavailable") from None
