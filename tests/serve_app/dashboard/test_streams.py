"""A stream of the dashboard ends as a whole answer where its process leaves."""

import asyncio
from typing import Any

import pytest

from serve_app.dashboard.streams import Hub, stream
from serve_app.dashboard.visit import Visit


async def nothing() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


@pytest.mark.parametrize(("signed_in", "last"), [(True, b""), (False, b"event: ended\ndata: {}\n\n")])
async def test_a_closed_hub_ends_its_streams(signed_in: bool, last: bytes) -> None:
    hub, sent, may_see = Hub(), list[dict[str, Any]](), [True]

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    visit = Visit("GET", "/api/stream", {}, {}, nothing)
    streaming = asyncio.create_task(stream(hub, visit, frozenset({"now"}), lambda: may_see[0], send))
    while not sent:
        await asyncio.sleep(0)
    hub.publish("now", {"models": 3})
    while b"event: now" not in sent[-1].get("body", b""):
        await asyncio.sleep(0)
    may_see[0] = signed_in
    hub.close()
    await streaming
    assert sent[-1] == {"type": "http.response.body", "body": last, "more_body": False}
    assert hub.viewers == 0


async def test_a_stream_that_comes_after_the_close_is_whole_and_empty() -> None:
    hub, sent = Hub(), list[dict[str, Any]]()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    hub.close()
    await stream(hub, Visit("GET", "/api/stream", {}, {}, nothing), frozenset(), lambda: True, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
