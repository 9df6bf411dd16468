"""TLS that ends at a proxy in front, as docs/security.md has it: limits hold by each client's address."""

import http.client
import http.server
import queue
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve_app.http.haproxy import ADDRESS_ENV, TRUSTED_ENV
from tests.certificates import Authority
from tests.serve_app.http.proxy import Replica, answered, running, wait_for

ONE, OTHER = "127.0.0.5", "127.0.0.6"
AT_ONCE = 2


@contextmanager
def terminator(authority: Authority, behind: int) -> Iterator[int]:
    """A proxy with a certificate of its own that adds each client's address and keeps its connections.

    So one connection to HAProxy carries requests of several clients, one after the other.
    """
    kept: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told = ", ".join([*self.headers.get_all("x-forwarded-for", []), self.client_address[0]])
            try:
                upstream = kept.get_nowait()
            except queue.Empty:
                upstream = http.client.HTTPConnection("127.0.0.1", behind)
            upstream.request("GET", self.path, headers={"x-forwarded-for": told})
            answer = upstream.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            kept.put(upstream)

        def log_message(self, *_: object) -> None:
            pass

    certificate = authority.sign("pool.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_a_client_behind_tls_that_ends_in_front_is_limited_by_its_own_address(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=authority.file)
    variables = {TRUSTED_ENV: "127.0.0.1", ADDRESS_ENV: str(AT_ONCE)}
    with (
        Replica() as replica,
        running(tmp_path, replica.port, variables) as port,
        terminator(authority, port) as door,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        wait_for(lambda: answered(door, trust=trust)[0] == 200)
        held = [pool.submit(answered, door, "/held", trust, ONE) for _ in range(AT_ONCE)]
        wait_for(lambda: replica.holds == AT_ONCE)
        forged = {"x-forwarded-for": OTHER}
        status, body = answered(door, trust=trust, source=ONE, headers=forged)
        assert status == 429, "a third request at once, whatever it says of itself"
        assert body["error"]["code"] == "rate_limit_exceeded"
        status, seen = answered(door, trust=trust, source=OTHER)
        assert status == 200, "the other client, by the same proxy and its kept connections"
        assert seen["x-forwarded-for"].split(", ")[0] == OTHER
        replica.release()
        assert [one.result()[0] for one in held] == [200, 200]
        wait_for(lambda: answered(door, trust=trust, source=ONE)[0] == 200)


def test_who_is_not_trusted_speaks_for_nobody(tmp_path: Path) -> None:
    """Connections of a proxy that the pool does not know count as the proxy's own."""
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=authority.file)
    variables = {TRUSTED_ENV: "10.0.0.0/8", ADDRESS_ENV: str(AT_ONCE)}
    with (
        Replica() as replica,
        running(tmp_path, replica.port, variables) as port,
        ThreadPoolExecutor(AT_ONCE) as pool,
        terminator(authority, port) as door,
    ):
        wait_for(lambda: answered(door, trust=trust)[0] == 200)
        held = [pool.submit(answered, door, "/held", trust, ONE) for _ in range(AT_ONCE)]
        wait_for(lambda: replica.holds == AT_ONCE)
        # HAProxy resets the proxy's connection, which then ends its client's.
        with pytest.raises((http.client.HTTPException, OSError)):
            answered(door, trust=trust, source=OTHER)
        replica.release()
        assert [one.result()[0] for one in held] == [200, 200]
