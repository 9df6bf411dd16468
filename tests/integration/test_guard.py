"""What guards the endpoint in HAProxy mode: control headers, large and slow bodies, half-open connections."""

import json
import os
import socket
import time

import httpx
import psutil
import pytest

from serve_app.console.doctor import Ports, listeners, port_findings

pytestmark = pytest.mark.integration

KEY = b"fs-integration-key-0123456789"
BODY = {"model": "alpha", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def address(cluster):
    host, port = cluster.url.removeprefix("http://").split(":")
    return host, int(port)


def exchange(cluster, sent: bytes, timeout_s: float = 60.0) -> bytes:
    """What comes back for raw bytes, until the server closes or says nothing more."""
    with socket.create_connection(address(cluster), timeout=timeout_s) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while part := connection.recv(65_536):
                received += part
                head, found, rest = received.partition(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if found and length and len(rest) >= int(length[0].split(b":")[1]):
                    break
        except TimeoutError:
            pass
    return received


@pytest.mark.timing
def test_300_half_open_bodies_do_not_disturb_anybody(cluster):
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
    half_open = [socket.create_connection(address(cluster), timeout=15.0) for _ in range(300)]
    try:
        for connection in half_open:
            connection.sendall(head)
        times_s = []
        with cluster.client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
            for _ in range(20):
                began_s = time.monotonic()
                assert client.post("/v1/chat/completions", json=BODY).status_code == 200
                times_s.append(time.monotonic() - began_s)
        assert sorted(times_s)[-2] < 1.0
        answer = half_open[0].recv(4096)
        while b"}}" not in answer:
            answer += half_open[0].recv(4096)
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert b"request_timeout" in answer
    finally:
        for connection in half_open:
            connection.close()


def test_a_stranger_is_refused_before_its_body_has_come_and_replicas_are_not_blamed(cluster):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(address(cluster), timeout=60.0) as connection:
            connection.sendall(head + b" " * 40_000)
            received = b""
            while part := connection.recv(65_536):  # until the server closes it
                received += part
        assert b" 401 " in received.split(b"\r\n")[0]
        assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_api_key"
        assert b"www-authenticate: Bearer" in received
    with cluster.client() as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200


def test_nothing_of_ours_listens_beyond_loopback(cluster):
    found = listeners(psutil.Process().children(recursive=True))
    assert [one for one in port_findings(found, Ports.of(os.environ)) if one.level == "problem"] == []
    proxy = {one.port for one in found if one.program.startswith("haproxy")}
    assert Ports.of(os.environ).monitors < proxy, "or this test looked at nothing"


def test_headers_that_never_end_are_cut_off_and_disturb_nobody(cluster):
    held = [socket.create_connection(address(cluster), timeout=60.0) for _ in range(100)]
    try:
        for connection in held:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ")
        with cluster.client() as client:
            assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        for connection in held:
            while connection.recv(4096):  # until the server closes it
                pass
    finally:
        for connection in held:
            connection.close()


def test_control_headers_change_nothing(cluster):
    hostile = {
        "x-request-timeout-seconds": "0.001",
        "x-request-disconnect-disabled": "?1",
        "serve_multiplexed_model_id": "nope",
        "x-session-id": "s",
        "x-serve-router-x": "y",
        "x-fastserve-guard": "0",
    }
    with cluster.client() as client:
        for name, value in hostile.items():
            answer = client.post(
                "/v1/chat/completions", json=BODY | {"max_tokens": 32}, headers={name: value}
            )
            assert answer.status_code == 200, (name, answer.text)


@pytest.mark.parametrize("header", [b"x-request-id: \xff\xfe", b"serve_multiplexed_model_id: \xff"])
def test_headers_that_are_no_text_are_no_500(cluster, header):
    body = json.dumps(BODY).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n%s\r\ncontent-length: %d\r\n\r\n"
    status = exchange(cluster, head % (header, len(body)) + body).split(b"\r\n")[0]
    assert b" 400 " in status or b" 401 " in status


def test_a_body_over_the_cap_is_413(cluster):
    with cluster.client() as client:
        answer = client.post(
            "/v1/chat/completions",
            content=b"{" + b" " * 3_000_000,
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n\r\n" % (b"a" * 40_000),
        b"BREW /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        bytes.fromhex("1603010200010001fc0303"),
    ],
)
def test_broken_http_is_refused_and_harms_nobody(cluster, sent):
    answer = exchange(cluster, sent)
    assert answer.split(b" ")[1][:1] == b"4"
    assert b"content-type: application/json" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"]
    with cluster.client() as client:
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_generation(cluster, stream):
    """The replica's running count falls long before the answer's end, for a stream and for one not begun."""
    body = json.dumps(BODY | {"model": "slow", "stream": stream, "max_tokens": 2000}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    with socket.create_connection(address(cluster), timeout=60.0) as connection:
        connection.sendall(head % (KEY, len(body)) + body)
        cluster.wait_for(lambda: cluster.running("slow") == 1)
    cluster.wait_for(lambda: cluster.running("slow") == 0)
