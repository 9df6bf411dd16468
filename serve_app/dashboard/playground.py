"""The view Playground: chats and votes that go through the endpoint, with the viewer's own key."""

from typing import Any, Final

import aiohttp
import orjson

from serve_app.dashboard.visit import Visit, Visitor
from serve_app.http.errors import ApiError, bad_request, unavailable
from serve_app.http.request import Send

MOST_TOKENS: Final = 1024
_FIELDS: Final = frozenset({"model", "messages", "max_tokens", "temperature"})
_HEAD: Final = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
_TOLD: Final = {
    "id": "x-fastserve-decision-id",
    "model": "x-fastserve-model",
    "policy": "x-fastserve-policy",
    "fallbacks": "x-fastserve-fallbacks",
}


class Playground:
    """Passes on to the endpoint, which checks the key, its roles and its limits as for any caller."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def chat(self, visit: Visit, visitor: Visitor, url: str, send: Send) -> None:
        """Stream one answer: first the decision, then the endpoint's own events. Raises ApiError."""
        body = chat_body(visit.json())
        async with self._post(f"{url}/v1/chat/completions", visitor, body) as answer:
            if answer.status != 200:
                raise _refused(answer.status, await answer.read())
            await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
            told = {name: answer.headers.get(header, "") for name, header in _TOLD.items()}
            first = b"event: decision\ndata: %b\n\n" % orjson.dumps(told)
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def vote(self, visit: Visit, visitor: Visitor, url: str) -> dict[str, Any]:
        """One vote; returns what the endpoint said. Raises ApiError."""
        async with self._post(f"{url}/v1/feedback", visitor, visit.json()) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise _refused(answer.status, body)
            return orjson.loads(body)

    def _post(self, url: str, visitor: Visitor, body: dict[str, Any]) -> "_Post":
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=5.0)
            self._session = aiohttp.ClientSession(timeout=timeout)
        headers = {"authorization": f"Bearer {visitor.text}", "content-type": "application/json"}
        return _Post(self._session.post(url, data=orjson.dumps(body), headers=headers))


class _Post:
    """A request whose failure to reach the endpoint becomes an ApiError."""

    def __init__(self, request: Any) -> None:
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            return await self._request.__aenter__()
        except (TimeoutError, aiohttp.ClientConnectionError) as error:
            raise unavailable(
                "The endpoint cannot be reached from the dashboard.", "endpoint_away"
            ) from error

    async def __aexit__(self, *error: object) -> None:
        await self._request.__aexit__(*error)


def chat_body(given: dict[str, Any]) -> dict[str, Any]:
    """What is sent to the endpoint. Raises ApiError (400) for fields that the playground does not have."""
    for name in given:
        if name not in _FIELDS:
            raise bad_request(f"The playground has no field '{name[:64]}'.", name[:64])
    body = {"max_tokens": 256, **given, "stream": True}
    if not isinstance(body["max_tokens"], int) or not 1 <= body["max_tokens"] <= MOST_TOKENS:
        raise bad_request(f"'max_tokens' must be a whole number from 1 to {MOST_TOKENS}.", "max_tokens")
    return body


def _refused(status: int, body: bytes) -> ApiError:
    """The endpoint's own error; a 401 of its is no end of the sign-in, which still holds."""
    try:
        detail = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        detail = {"message": "The endpoint refused the request."}
    status = 403 if status == 401 else status
    return ApiError(status, str(detail.get("message")), code=detail.get("code"), param=detail.get("param"))
