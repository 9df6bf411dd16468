"""Engine `openai`: an OpenAI-compatible upstream by URL; only the name of the model is changed."""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.model.config import ModelConfig, Upstream
from deployments.model.engines.base import Engine, EngineError, EngineStats
from deployments.model.engines.http import (
    header,
    read_body,
    request_id,
    send_error,
    send_json,
    until_disconnected,
)
from deployments.model.settings import ModelSettings
from deployments.records.operation import ENGINE_PATHS
from deployments.records.records import EngineRecord

KEPT_HEADERS = frozenset({"content-type", "retry-after", "openai-processing-ms", "x-request-id"})
READ_TIMEOUT_S = 600.0


class OpenAiEngine(Engine):
    """Forwards to `upstream.base_url` with the key from the environment variable `upstream.key_env`."""

    def __init__(self, config: ModelConfig) -> None:
        if config.upstream is None:
            raise ValueError(f"Model '{config.id}' has no 'upstream'.")
        self._config = config
        self._upstream: Upstream = config.upstream
        self._slots = ModelSettings().max_ongoing_requests
        self._running = 0
        self._failures = 0  # in a row
        self._progressed_s = time.monotonic()
        self._finished: list[EngineRecord] = []

    def reconfigure(self, settings: ModelSettings) -> None:
        """An endpoint has no slots: what the replica lets in stands for them."""
        super().reconfigure(settings)
        self._slots = settings.max_ongoing_requests

    async def start(self) -> ASGIApp:
        """Open the connection pool.

        Raises:
            EngineError: the key's environment variable is not set.
        """
        self._headers = {"content-type": "application/json"}
        if self._upstream.key_env is not None:
            key = os.environ.get(self._upstream.key_env)
            if not key:
                raise EngineError(f"Environment variable '{self._upstream.key_env}' holds no key.")
            self._headers["authorization"] = f"Bearer {key}"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._upstream.connect_timeout_s, sock_read=READ_TIMEOUT_S
        )
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=True)
        return self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if method == "GET" and path == "/health":
            await send_json(send, 200, {})
        elif method == "GET" and path == "/v1/models":
            await send_json(send, 200, {"object": "list", "data": [self._card()]})
        elif method == "POST" and path in ENGINE_PATHS:
            await self._post(scope, receive, send)
        else:
            await send_error(send, 404, f"No endpoint '{method} {path}'.", code="not_found")

    def _card(self) -> dict[str, Any]:
        return {
            "id": self._config.id,
            "object": "model",
            "created": 0,
            "owned_by": "upstream",
            "max_model_len": self._config.context_tokens,
        }

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = renamed(await read_body(receive), self._config.id, self._upstream.model or self._config.id)
        if body is None:
            message = f"The body must be a JSON object with model '{self._config.id}'."
            await send_error(send, 404, message, param="model", code="model_not_found")
            return
        self._running += 1
        try:
            async with until_disconnected(receive):
                await self._forward(scope, body, send)
        finally:
            self._running -= 1
            self._progressed_s = time.monotonic()

    async def _forward(self, scope: Scope, body: bytes, send: Send) -> None:
        began_s, first_s, started = time.monotonic(), None, False
        url = self._upstream.base_url.rstrip("/") + scope["path"].removeprefix("/v1")
        headers = {**self._headers, "x-request-id": request_id(scope) or ""}
        if accept := header(scope, b"accept"):
            headers["accept"] = accept
        try:
            async with self._session.post(url, data=body, headers=headers) as answer:
                self._count(answer.status >= 500)
                await send({"type": "http.response.start", "status": answer.status, "headers": _kept(answer)})
                started = True
                async for part in answer.content.iter_any():
                    first_s = first_s or time.monotonic()
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:
            self._count(True)
            if started:
                raise  # the server cuts the connection, so that a broken answer never looks whole
            message = f"The upstream of model '{self._config.id}' failed: {type(error).__name__}."
            await send_error(send, 502, message, kind="server_error", code="upstream_failed")
            return
        end_s = time.monotonic()
        self._finished.append(
            EngineRecord(
                decision_id=request_id(scope) or "",
                ttft_s=None if first_s is None else first_s - began_s,
                e2e_s=end_s - began_s,
                finish_reason="stop" if answer.status < 400 else "error",
            )
        )

    def _count(self, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0

    def stats(self) -> EngineStats:
        """Only what this replica can see: its own requests. An endpoint shows no steps, so none is missed:
        a plain answer may take minutes."""
        return EngineStats(
            running=self._running,
            slots=self._slots,
            progressed_s=time.monotonic() if self._running else self._progressed_s,
        )

    def take_finished(self) -> list[EngineRecord]:
        """Times only: the tokens are in the answer's usage, which the ingress reads."""
        finished, self._finished = self._finished, []
        return finished

    async def check_health(self) -> None:
        """Fail after `failures_until_unhealthy` failures in a row, until the upstream answers again."""
        if self._failures < self._upstream.failures_until_unhealthy:
            return
        url = self._upstream.base_url.rstrip("/") + "/models"
        try:
            async with self._session.get(url, headers=self._headers) as answer:
                if answer.status < 500:
                    self._failures = 0
                    return
                reason = f"status {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = type(error).__name__
        raise EngineError(f"The upstream of model '{self._config.id}' is down: {reason}.")

    async def stop(self) -> None:
        """Close the connections."""
        await self._session.close()


def renamed(body: bytes, served: str, upstream: str) -> bytes | None:
    """The body with the upstream's name of the model; None unless it is an object that asks for `served`."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    if not isinstance(parsed, dict) or parsed.get("model") != served:
        return None
    if served == upstream:
        return body
    return json.dumps({**parsed, "model": upstream}, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _kept(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    headers: Mapping[str, str] = answer.headers
    return [
        (name.lower().encode(), value.encode("latin-1", "replace"))
        for name, value in headers.items()
        if name.lower() in KEPT_HEADERS
    ]
