"""Browsers: preflights reflect what they ask for, and every answer can be read from a configured origin."""

import pytest

from serve_app.http.cors import Cors, Origins

ORIGIN = b"https://a.example"
ASKED = b"authorization, content-type, x-stainless-os, x-stainless-retry-count, x-stainless-timeout"


async def answered(
    method: str, *headers: tuple[bytes, bytes], origins: tuple[str, ...] = ("https://a.example",)
):
    """Status and headers of an answer of a small app behind the middleware."""
    sent: list[dict] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 404, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message):
        sent.append(message)

    allowed = Origins()
    allowed.allow(origins)
    await Cors(app, allowed)({"type": "http", "method": method, "headers": list(headers)}, None, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_a_preflight_allows_the_headers_that_it_asks_for():
    status, headers = await answered(
        "OPTIONS",
        (b"origin", ORIGIN),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", ASKED),
    )
    assert status == 200
    assert headers[b"access-control-allow-headers"] == ASKED
    assert headers[b"access-control-allow-origin"] == ORIGIN
    assert b"POST" in headers[b"access-control-allow-methods"]


async def test_any_answer_can_be_read_errors_too():
    status, headers = await answered("POST", (b"origin", ORIGIN))
    assert status == 404
    assert headers[b"access-control-allow-origin"] == ORIGIN
    assert headers[b"access-control-expose-headers"] == b"*"
    assert headers[b"x"] == b"y"


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_other_origins_and_programs_get_nothing(method):
    for given in ([(b"origin", b"https://b.example")], []):
        status, headers = await answered(method, *given)
        assert (status, headers) == (404, {b"x": b"y"})


async def test_a_star_is_any_origin():
    _, headers = await answered("GET", (b"origin", b"https://b.example"), origins=("*",))
    assert headers[b"access-control-allow-origin"] == b"https://b.example"
