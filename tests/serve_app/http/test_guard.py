"""The guard alone: what it strips, what it lets through, when the ingress refuses to start."""

import asyncio
import gzip
import zlib

import pytest

from serve_app.config import IngressConfig
from serve_app.http.cors import Cors
from serve_app.http.errors import ApiError
from serve_app.http.guard import (
    HOOK,
    HOOK_ENV,
    MARK,
    Guard,
    clean,
    middlewares,
    require_installed,
    require_mark,
)
from serve_app.ingress import Ingress


def test_control_headers_are_stripped_and_the_mark_is_ours():
    hostile = [
        (b"x-request-timeout-seconds", b"0"),
        (b"x-request-disconnect-disabled", b"?1"),
        (b"serve_multiplexed_model_id", b"\xff"),
        (b"x-session-id", b"s"),
        (b"x-serve-router-target", b"t"),
        (b"x-fastserve-guard", b"forged"),
    ]
    kept = clean([*hostile, (b"host", b"x"), (b"x-request-id", b"mine")])
    assert kept == [(MARK, b"1"), (b"host", b"x"), (b"x-request-id", b"mine")]


@pytest.mark.parametrize("value", [b"\xff\xfe", b"a\tb", b"x" * 257])
def test_a_request_id_that_serve_would_fail_on_is_refused(value):
    with pytest.raises(ApiError) as caught:
        clean([(b"x-request-id", value)])
    assert caught.value.status == 400


def test_a_request_without_the_mark_is_refused():
    with pytest.raises(ApiError) as caught:
        require_mark({b"host": b"x"})
    assert caught.value.code == "guard_missing"
    require_mark({MARK: b"1"})


class Client:
    """Feeds body messages and keeps what is sent back."""

    def __init__(self, *parts: bytes, delay_s: float = 0.0, ends: bool = True) -> None:
        self.parts, self.delay_s, self.ends = list(parts), delay_s, ends
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        await asyncio.sleep(self.delay_s)
        if self.parts:
            body = self.parts.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self.parts) or not self.ends}
        if not self.ends:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


async def run(
    client: Client,
    *headers: tuple[bytes, bytes],
    max_bytes: int = 10,
    max_s: float = 0.2,
    total_bytes: int = 1000,
):
    """The body that the app behind the guard read, None where it was never asked."""
    seen: list[bytes] = []

    async def app(scope, receive, send):
        message = await receive()
        assert not message["more_body"]
        seen.append(message["body"])
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    await Guard(app, max_bytes, max_s, total_bytes)(
        {"type": "http", "headers": list(headers)}, client.receive, client.send
    )
    return seen[0] if seen else None


async def test_a_body_in_pieces_arrives_whole():
    client = Client(b"ab", b"cd", b"e")
    assert await run(client) == b"abcde"
    assert client.status == 200


async def test_a_body_over_the_cap_never_reaches_the_app():
    for client, headers in (
        (Client(b"x" * 6, b"x" * 6), ()),
        (Client(b"x" * 11), ((b"content-length", b"11"),)),
    ):
        assert await run(client, *headers) is None
        assert client.status == 413
        assert (b"connection", b"close") in client.sent[0]["headers"]


async def test_a_body_that_does_not_end_is_408():
    client = Client(b"x", ends=False)
    assert await run(client) is None
    assert client.status == 408


async def test_a_client_that_leaves_while_sending_gets_nothing():
    client = Client(b"x", b"y")
    client.parts = []
    assert await run(client) is None
    assert client.sent == []


async def test_a_websocket_is_closed():
    client = Client()
    await Guard(None, 10, 1.0, 10)({"type": "websocket", "headers": []}, client.receive, client.send)
    assert client.sent == [{"type": "websocket.close", "code": 1008}]


def test_without_its_hook_the_ingress_refuses_to_start(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTSERVE_HOME", str(tmp_path))
    monkeypatch.delenv(HOOK_ENV, raising=False)
    with pytest.raises(RuntimeError, match="needs its guard"):
        Ingress(IngressConfig())


def test_a_hook_that_serve_does_not_follow_is_no_guard(monkeypatch):
    """Serve reads the variable when it is imported: set afterwards it has no effect, and that is noticed."""
    monkeypatch.setenv(HOOK_ENV, HOOK)
    with pytest.raises(RuntimeError, match="did not load the guard"):
        require_installed()


def test_the_hook_gives_the_guard_with_its_limits(monkeypatch):
    monkeypatch.setenv("FASTSERVE_BODY_BYTES", "123")
    monkeypatch.setenv("FASTSERVE_BODY_S", "4.5")
    monkeypatch.setenv("FASTSERVE_BODIES_BYTES", "456")
    outer, guard = middlewares()
    assert (outer.cls, guard.cls) == (Cors, Guard)
    assert guard.kwargs == {"max_bytes": 123, "max_s": 4.5, "total_bytes": 456}


ENCODED = (b"content-encoding", b"gzip")


async def test_a_compressed_body_arrives_plain():
    assert await run(Client(gzip.compress(b"{}", mtime=0)), ENCODED, max_bytes=100) == b"{}"
    members = gzip.compress(b"{", mtime=0) + gzip.compress(b"}", mtime=0)
    assert await run(Client(members), ENCODED, max_bytes=100) == b"{}"
    deflated = (b"content-encoding", b"deflate")
    assert await run(Client(zlib.compress(b"{}")), deflated, max_bytes=100) == b"{}"


@pytest.mark.parametrize(
    ("body", "encoding", "status", "told"),
    [
        (gzip.compress(b"x" * 1_000_000, mtime=0), b"gzip", 413, "larger than 5000 bytes"),
        (
            gzip.compress(gzip.compress(b"x" * 1_000_000, mtime=0), mtime=0),
            b"gzip, gzip",
            415,
            "'gzip, gzip'",
        ),
        (b"x", b"br", 415, "'br'"),
        (b"not gzip", b"gzip", 400, "not what its content-encoding says"),
        (gzip.compress(b"{}", mtime=0)[:-4], b"gzip", 400, "ends before"),
        (gzip.compress(b"{}", mtime=0) + b"junk", b"gzip", 400, "not what its content-encoding says"),
    ],
    ids=["bomb", "twice", "brotli", "plain", "cut", "junk behind it"],
)
async def test_a_bomb_and_what_cannot_be_decoded_are_refused(body, encoding, status, told):
    client = Client(body)
    assert await run(client, (b"content-encoding", encoding), max_bytes=5000, total_bytes=10_000) is None
    assert client.status == status
    assert told in client.sent[1]["body"].decode()


async def test_bodies_under_way_are_bounded_together_and_give_their_room_back():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        entered.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard = Guard(app, 10, 1.0, 15)

    def call(client: Client, *headers: tuple[bytes, bytes]):
        return guard({"type": "http", "headers": list(headers)}, client.receive, client.send)

    first = asyncio.create_task(call(Client(b"x" * 10)))
    await entered.wait()
    for client, headers in (
        (Client(b"x" * 6), ()),
        (Client(b"x" * 6), ((b"content-length", b"6"),)),
    ):
        await call(client, *headers)
        assert client.status == 503
        assert (b"retry-after", b"1") in client.sent[0]["headers"]
    leave.set()
    await first
    later = Client(b"x" * 6)
    await call(later)
    assert later.status == 200
