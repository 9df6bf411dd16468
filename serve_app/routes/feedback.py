"""POST /v1/feedback: votes, by key or by the one-shot token of an answer."""

import time
from typing import Protocol

from deployments.feedback import VERDICT_STATUS, FeedbackError, FeedbackTokenError, parse_feedback
from deployments.records.records import FeedbackRecord
from deployments.table.store.store import StorageUnavailableError
from deployments.table.view import TableError
from serve_app.body.strict_json import parse
from serve_app.http.errors import ApiError, bad_request, unauthorized, unavailable
from serve_app.http.request import Request, Send, send_json
from serve_app.routes.endpoint import Endpoint

TOKEN_HEADER = b"x-fastserve-feedback-token"

_MESSAGES = {
    "conflict": ("This decision has another score for this metric already.", "feedback_conflict"),
    "unknown": ("There is no such decision.", "decision_not_found"),
    "cancelled": ("The request was cancelled, its answer cannot be judged.", "decision_cancelled"),
}


class FeedbackTable(Protocol):
    """Where votes are kept."""

    async def feedback(self, record: FeedbackRecord) -> str:
        """Store a vote; see deployments.table.table.Table.feedback."""


class FeedbackApi:
    """The route; a vote is durable before it is acknowledged."""

    def __init__(self, endpoint: Endpoint, table: FeedbackTable) -> None:
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
        verdict = await self._store(feedback.record(key_id, time.time()))
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
