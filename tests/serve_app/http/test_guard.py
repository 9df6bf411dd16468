"""The guard alone: what it strips, what it lets through, when the ingress refuses to start."""

import asyncio
import gzip
import json
import zlib

import pytest
from ray.serve._private.http_util import _apply_middlewares

from serve_app.config import IngressConfig
from serve_app.http.admission import Admission, Admitted
from serve_app.http.bodies import Bodies
from serve_app.http.cors import Cors
from serve_app.http.errors import ApiError, unauthorized
from serve_app.http.guard import (
    HOOK,
    HOOK_ENV,
    MARK,
    Guard,
    Limits,
    clean,
    environment,
    middlewares,
    require_installed,
    require_mark,
)
from serve_app.http.until_close import UntilClose
from serve_app.ingress import Ingress
from tests.virtual_time import virtual_time


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


def scope(*headers: tuple[bytes, bytes]) -> dict:
    return {"type": "http", "method": "POST", "path": "/v1/completions", "headers": list(headers)}


CHUNKED = (b"transfer-encoding", b"chunked")


async def run(
    client: Client,
    *headers: tuple[bytes, bytes],
    max_bytes: int = 10,
    max_s: float = 0.2,
    total_bytes: int = 1000,
    bytes_per_s: int = 1000,
):
    """The body that the app behind the guard read, None where it was never asked."""
    seen: list[bytes] = []

    async def app(scope, receive, send):
        message = await receive()
        assert not message["more_body"]
        seen.append(message["body"])
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    limits = Limits(max_bytes, total_bytes, max_s, bytes_per_s)
    await Guard(app, limits, Admission())(scope(*headers), client.receive, client.send)
    return seen[0] if seen else None


async def test_a_body_in_pieces_arrives_whole():
    client = Client(b"ab", b"cd", b"e")
    assert await run(client) == b"abcde"
    assert client.status == 200


async def test_a_body_over_the_cap_never_reaches_the_app():
    for client, headers in (
        (Client(b"x" * 6, b"x" * 6), (CHUNKED,)),
        (Client(b"x" * 11), ((b"content-length", b"11"),)),
    ):
        assert await run(client, *headers) is None
        assert client.status == 413
        assert (b"connection", b"close") in client.sent[0]["headers"]


async def test_a_body_that_does_not_end_is_408():
    client = Client(b"x", ends=False)
    assert await run(client, CHUNKED) is None
    assert client.status == 408


async def test_a_refusal_is_said_before_what_is_left_of_the_body_is_read_and_only_a_part_is_read():
    client = Client(*[b"x" * 100_000] * 100)
    assert await run(client, CHUNKED) is None
    assert client.status == 413
    assert [message.get("more_body") for message in client.sent] == [None, True, None]
    refusal = dict(client.sent[0]["headers"])[b"x-fastserve-refusal"]
    assert json.loads(refusal) == json.loads(client.sent[1]["body"])
    assert 100 - len(client.parts) == 1 + 11  # the one over the cap, then 1 MiB


@virtual_time
async def test_a_body_may_take_long_while_it_comes_fast_enough():
    async def sent(bytes_per_s: int) -> tuple[bytes | None, Client]:
        client = Client(*[b"x" * 10] * 4, delay_s=1.0)  # 10 bytes/s
        return await run(client, CHUNKED, max_bytes=100, max_s=1.5, bytes_per_s=bytes_per_s), client

    assert (await sent(10))[0] == b"x" * 40
    body, client = await sent(30)
    assert (body, client.status) == (None, 408)


async def test_who_is_not_admitted_is_told_so_without_a_look_at_the_body():
    def admit(request):
        assert (request.method, request.path) == ("POST", "/v1/completions")
        raise unauthorized()

    admission = Admission()
    admission.ask(admit)
    guard = Guard(None, Limits(10, 10, 1.0, 1000), admission)
    client = Client()
    await guard(scope(), client.receive, client.send)
    assert client.status == 401
    assert len(client.sent) == 2
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["path"])

    health = scope() | {"method": "GET", "path": "/-/healthz"}
    await Guard(app, Limits(10, 10, 1.0, 1000), admission)(health, Client(b"").receive, client.send)
    assert passed == ["/-/healthz"]
    client = Client(*[b"x"] * 9)
    await guard(scope((b"content-length", b"9")), client.receive, client.send)
    assert (client.status, client.parts) == (401, [])


async def test_a_body_is_bounded_by_what_its_sender_may_send():
    admission = Admission()
    admission.ask(lambda request: Admitted("k", 5))
    client = Client(b"x" * 6)
    await Guard(None, Limits(10, 10, 1.0, 1000), admission)(scope(CHUNKED), client.receive, client.send)
    assert client.status == 413
    assert b"larger than 5 bytes" in client.sent[1]["body"]


def test_several_bodies_of_one_caller_hold_at_most_half_of_the_room():
    bodies = Bodies(100)
    with bodies.room("a") as mine, bodies.room("a") as second, bodies.room("b") as others:
        mine.hold(40)
        with pytest.raises(ApiError, match="of this key") as caught:
            second.hold(11)
        assert caught.value.status == 503
        second.hold(10)
        others.hold(50)
        with pytest.raises(ApiError, match="of all"):
            others.hold(51)
        others.hold(20)
        assert (bodies.held_bytes, bodies.by_caller) == (70, {"a": 50, "b": 20})
    assert (bodies.held_bytes, bodies.by_caller) == (0, {})


def test_a_body_that_is_its_caller_s_only_one_may_need_more_than_half():
    bodies = Bodies(100)
    with bodies.room("a") as mine:
        mine.hold(90)
        with pytest.raises(ApiError, match="of all"), bodies.room("b") as others:
            others.hold(11)


async def test_a_body_that_has_room_beside_no_other_is_413():
    wide = b'{"a":"' + b"x" * 1_000 + "\N{GRINNING FACE}".encode() + b'"}'
    client = Client(wide)
    assert await run(client, max_bytes=2_000, total_bytes=10_000) is None
    assert (client.status, b"once it is parsed" in client.sent[1]["body"]) == (413, True)
    assert await run(Client(wide), max_bytes=2_000, total_bytes=20_000) == wide


async def test_a_client_that_leaves_while_sending_gets_nothing():
    client = Client(b"x", b"y")
    client.parts = []
    assert await run(client) is None
    assert client.sent == []


async def test_a_websocket_is_closed():
    client = Client()
    await Guard(None, Limits(10, 10, 1.0, 1000), Admission())(
        {"type": "websocket", "headers": []}, client.receive, client.send
    )
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
    limits = Limits(123, 456, 4.5, 7)
    for name, value in environment(limits).items():
        monkeypatch.setenv(name, value)
    guard, *outer = middlewares()
    assert [guard.cls, *(middleware.cls for middleware in outer)] == [Guard, Cors, UntilClose]
    assert guard.kwargs == {"limits": limits}


async def test_serve_puts_the_readable_answers_around_the_guard(monkeypatch):
    """Serve's last middleware is the outermost one: what the guard refuses, a page must be able to read."""
    monkeypatch.setattr("serve_app.http.cors.ORIGINS._allowed", frozenset({b"https://a.example"}))
    monkeypatch.setattr("serve_app.http.admission.ADMISSION._admit", None)
    app = _apply_middlewares(None, middlewares())
    client = Client(b"{}")
    origin = (b"origin", b"https://a.example")
    headers = [origin, (b"content-encoding", b"br")]
    scope = {"type": "http", "method": "POST", "path": "/", "http_version": "1.1", "headers": headers}
    await app(scope, client.receive, client.send)
    head = client.sent[0]
    assert head["status"] == 415
    assert (b"access-control-allow-origin", b"https://a.example") in head["headers"]


ENCODED = (b"content-encoding", b"gzip")


async def test_a_compressed_body_arrives_plain():
    assert await run(Client(gzip.compress(b"{}", mtime=0)), ENCODED, max_bytes=100) == b"{}"
    members = gzip.compress(b"{", mtime=0) + gzip.compress(b"}", mtime=0)
    assert await run(Client(members), ENCODED, max_bytes=100) == b"{}"
    deflated = (b"content-encoding", b"deflate")
    assert await run(Client(zlib.compress(b"{}")), deflated, max_bytes=100) == b"{}"
    assert await run(Client(zlib.compress(b"{}", wbits=-15)), deflated, max_bytes=100) == b"{}"
    for name in (b"GZIP", b"identity, gzip", b" x-gzip ,identity"):
        once = (b"content-encoding", name)
        assert await run(Client(gzip.compress(b"{}", mtime=0)), once, max_bytes=100) == b"{}"
    assert await run(Client(b"{}"), (b"content-encoding", b"Identity"), max_bytes=100) == b"{}"


async def test_an_encoding_in_two_headers_is_as_good_as_in_one():
    twice = gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0)
    client = Client(twice)
    assert await run(client, ENCODED, ENCODED, max_bytes=1000) is None
    assert (client.status, b"'gzip, gzip'" in client.sent[1]["body"]) == (415, True)


async def test_many_small_members_cost_no_more_than_one_large_one():
    empty = gzip.compress(b"", mtime=0)
    many = gzip.compress(b"{}", mtime=0) + empty * 500
    assert await run(Client(many), ENCODED, max_bytes=100_000, total_bytes=10**6) == b"{}"
    client = Client(empty * 2_000)
    assert await run(client, ENCODED, max_bytes=100_000, total_bytes=10**6) is None
    assert (client.status, b"1000 compressed members" in client.sent[1]["body"]) == (400, True)
    large = gzip.compress(b"x" * 300_000 + b"{}", mtime=0)
    assert len(await run(Client(large), ENCODED, max_bytes=400_000, total_bytes=10**7)) == 300_002


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

    guard = Guard(app, Limits(10, 100, 1.0, 1000), Admission())

    def call(client: Client, *headers: tuple[bytes, bytes]):
        return guard(scope(*headers), client.receive, client.send)

    first = asyncio.create_task(call(Client(b"x" * 10)))
    await entered.wait()
    for client, headers in (
        (Client(b"x" * 6), (CHUNKED,)),
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
