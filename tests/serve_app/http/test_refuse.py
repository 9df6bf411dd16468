"""What never becomes a request, and what does: HAProxy with refuse.lua, in Serve's own config."""

import contextlib
import http.server
import json
import random
import socket
import threading

import pytest
from ray.serve._private.haproxy_metrics import HAProxyMetricsCollector

from deployments.records.decision_id import REQUEST_HEADER, request_name
from serve_app.http import haproxy
from serve_app.http.haproxy import Door, edited
from tests.serve_app.http.proxy import running, served_config

DOOR = Door(1000, 900, 15)
QUICK = {haproxy.REQUEST_ENV: "1"}


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """HAProxy before an ingress that is not there."""
    with running(tmp_path_factory.mktemp("haproxy"), variables=QUICK) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """HAProxy before an ingress that answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as replica:
        threading.Thread(target=replica.serve_forever, daemon=True).start()
        with running(tmp_path_factory.mktemp("haproxy"), replica.server_port, QUICK) as found:
            yield found
        replica.shutdown()


class Answers(http.server.BaseHTTPRequestHandler):
    """An ingress that says how it was asked."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers["content-length"] or 0))
        body = json.dumps([self.command, self.path, *self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


for method in ("GET", "POST", "PATCH"):
    setattr(Answers, f"do_{method}", Answers.answer)


def exchange(port, *parts):
    """What comes back until HAProxy closes; each part but the first is sent once something has come."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60.0) as one:
        for number, part in enumerate(parts):
            if number:
                answer += one.recv(65_536)
            one.sendall(part)
        while part := one.recv(65_536):
            answer += part
    return answer


def told(answer):
    """Status and code of an error in OpenAI's shape, with nothing behind it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error["code"]


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n" % (b"a" * 20_000), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-a: %s\r\n" % (b"a" * 200) * 90, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 300, 431, "headers_too_large"),
        (b"GET /%s HTTP/1.1\r\nhost: x\r\n" % (b"a" * 20_000), 414, "headers_too_large"),
        (b"GET /?%s HTTP/1.0\r\n" % (b"a" * 9_000), 414, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n" % (b"a" * 40_000), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-a: b\r\n" * 9_000, 431, "headers_too_large"),
        (b"GET /%s HTTP/1.1\r\nhost: x\r\n" % (b"a" * 40_000), 414, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n" % (b"a" * 9_000), 503, "not_ready"),
    ],
    ids=[
        "a cookie",
        "many bytes of headers",
        "many headers",
        "a path",
        "a query",
        "a cookie over the buffer",
        "headers over the buffer",
        "a path over the buffer",
        "a cookie that may be",
    ],
)
def test_what_is_too_wide_is_told_so_in_openai_s_shape(port, head, status, code):
    assert told(exchange(port, head + b"connection: close\r\n\r\n")) == (status, code)


NO_HTTP = {
    "one word": b"GARBAGE\r\n\r\n",
    "TLS": bytes.fromhex("16030102000100 01fc0303") + bytes(range(256)) * 2,
    "the first bytes of TLS": bytes.fromhex("1603010200"),
    "a line without a version": b"GET /v1/models\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/9.9": b"GET /v1/models HTTP/9.9\r\nhost: x\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    "a blank in a header's name": b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
    "a length that is no number": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a path that is not ASCII": "GET /\u00e9 HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    "zeros": bytes(64),
    "HTTP/2 without TLS": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "another protocol's first line": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_told_so_in_openai_s_shape(port, sent):
    assert told(exchange(port, sent)) == (400, "bad_http")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GE",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a:",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
    ],
    ids=["nothing", "half a method", "half a header", "half a body"],
)
def test_what_does_not_arrive_in_time_is_told_so_in_openai_s_shape(port, sent):
    assert told(exchange(port, sent)) == (408, "request_timeout")


@pytest.mark.parametrize("method", [b"BREW", b"get", b"TRACE", b"M-SEARCH", b"A" * 900])
def test_a_method_that_the_ingress_cannot_read_is_told_so_in_openai_s_shape(served, method):
    answer = exchange(served, method + b" /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert told(answer) == (405, "method_not_allowed")


def test_a_chunk_that_is_none_is_told_so(served):
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
    answer = exchange(served, head, b"zz\r\n\r\n")
    assert told(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")) == (400, "bad_http")


def test_requests_are_passed_on_whole_or_in_parts_with_any_method_and_more_than_one_a_connection(served):
    one = b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"PATCH /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    for sent in ((one, last), (one + last,), (b"\r\n" + one, b"\r\n" + last)):
        answer = exchange(served, *sent)
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert b'["GET", "/one"' in answer
        assert b'["PATCH", "/last"' in answer
    with socket.create_connection(("127.0.0.1", served), timeout=60.0) as slow:
        for byte in b"GET / HTTP/1.0\r\n\r\n":
            slow.sendall(bytes([byte]))
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "second", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\ncookie: %s\r\n\r\n" % (b"a" * 40_000), b"GET / HTTP"]
)
def test_what_is_no_request_behind_a_request_closes_the_connection_without_a_page(served, second):
    """A client sends it again on a connection of its own, as after any that was closed: there it is told."""
    answer = exchange(served, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", second)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"html" not in answer


def test_every_request_has_a_name_that_is_not_the_client_s_and_a_repeated_one_keeps_it(tmp_path):
    heads = []
    with (
        socket.create_server(("127.0.0.1", 0)) as replica,
        running(tmp_path, replica.getsockname()[1], QUICK) as port,
    ):

        def serve():
            while len(heads) < 3:
                connection, _ = replica.accept()
                with connection:
                    head = connection.recv(65_536)
                    if b"/-/healthz" in head:
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        continue
                    heads.append(head)
                    if len(heads) > 1:  # the first one dies before it answers
                        connection.sendall(
                            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                        )

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for _ in range(2):
            sent = b"GET / HTTP/1.1\r\nhost: x\r\nx-fastserve-request: mine\r\nconnection: close\r\n\r\n"
            assert exchange(port, sent).startswith(b"HTTP/1.1 200 OK")
        thread.join(60.0)
    names = [
        [line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"x-fastserve-request:")]
        for head in heads
    ]
    first, again, other = (request_name(*found) for found in names)
    assert first == again != other
    assert names[0] == names[1]


def test_the_header_with_the_name_is_the_one_that_the_ingress_reads(tmp_path):
    assert f"http-request set-header {REQUEST_HEADER} %[uuid]" in edited(served_config(tmp_path), DOOR)


def test_haproxy_survives_whatever_is_sent(served):
    """It has died of refuse.lua beside a choice of a backend; pieces in any order find such a thing again."""
    pieces = [
        *(
            b"GET ",
            b"POST ",
            b"/ ",
            b" HTTP/1.1",
            b" HTTP/1.0",
            b" HTTP/2.0",
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\0",
        ),
        *(
            b"host: x\r\n",
            b"content-length: 5\r\n",
            b"transfer-encoding: chunked\r\n",
            b"zz\r\n",
            b"0\r\n\r\n",
        ),
        *(b"a" * 40_000, b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n"),
        *(b"expect: 100-continue\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"CONNECT x:1", b"http://x/ "),
    ]
    generator = random.Random(1)
    for _ in range(400):
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", served), timeout=60.0) as one,
        ):
            for part in generator.choices(pieces, k=generator.randint(1, 8)):
                one.sendall(part)
    assert told(exchange(served, b"GARBAGE\r\n\r\n")) == (400, "bad_http")


def test_serve_s_metrics_and_the_access_log_name_method_status_and_path(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "metrics.sock"))
        log.settimeout(60.0)
        with running(tmp_path, variables=QUICK) as port:
            exchange(port, b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            line = log.recv(8192)
    found = HAProxyMetricsCollector.parse_line(line)
    assert found is not None
    assert (found.app, found.route, found.method, found.status_code) == ("fastserve", "/", "GET", "503")
    assert found.latency_ms is not None
    assert b'"/v1/models"' in line
