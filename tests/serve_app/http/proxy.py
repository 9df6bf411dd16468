"""HAProxy as Serve's manager starts it, by our launcher, before a stand-in for an ingress replica; no Ray."""

import contextlib
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from serve_app.http.haproxy import launcher

PORTS = ("18999", "9101", "8404")  # in the config: of the endpoint, metrics and statistics


def served_config(folder: Path, backends: bool = True, replica_port: int = 9) -> str:
    """The config as Serve writes it, with the app or before it is known."""
    options = HTTPOptions(host="127.0.0.1", port=int(PORTS[0]))
    config = HAProxyConfig(
        http_options=options,
        socket_path=f"{folder}/s/admin.sock",
        server_state_base=str(folder),
        server_state_file=f"{folder}/state",
        metrics_socket_path=f"{folder}/metrics.sock",
        is_head=True,
        retry_on="conn-failure empty-response",  # as cluster.yaml has it
    )
    server = ServerConfig(name="one", host="127.0.0.1", port=replica_port)
    backend = BackendConfig(
        name="http-fastserve",
        path_prefix="/",
        servers=[server],
        app_name="fastserve",
        protocol=RequestProtocol.HTTP,
    )
    api = HAProxyApi(config, {"http-fastserve": backend} if backends else {}, f"{folder}/haproxy.cfg")
    api._generate_config_file_internal()
    return Path(folder, "haproxy.cfg").read_text()


@contextlib.contextmanager
def running(folder: Path, replica_port: int = 9, variables: Mapping[str, str] | None = None) -> Iterator[int]:
    """HAProxy with Serve's config on free ports: that of the endpoint."""
    file, text, ports = folder / "haproxy.cfg", served_config(folder, replica_port=replica_port), []
    for port in PORTS:
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
            text = text.replace(f":{port}", f":{ports[-1]}")
    file.write_text(text)
    process = subprocess.Popen([launcher(folder), "-db", "-f", file], env={**os.environ, **(variables or {})})
    try:
        while not (folder / "s" / "admin.sock").exists():  # it runs
            assert process.poll() is None
            time.sleep(0.02)
        yield ports[0]
    finally:
        file.with_suffix(".current").write_text("0")  # whatever stands by has nothing to do any more
        process.kill()
        process.wait()


class Replica:
    """Answers with the headers that it got; requests for `/held` only once `release` is called."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.holds = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def release(self) -> None:
        """What is held is answered."""
        self._released.set()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        replica = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/held":
                    replica.holds += 1
                    replica._released.wait()
                body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
                with contextlib.suppress(ConnectionError):  # a health check does not wait for the body
                    self.send_response(200)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def answered(
    port: int,
    path: str = "/",
    trust: ssl.SSLContext | None = None,
    source: str = "127.0.0.1",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one GET from an address of this machine; by TLS where `trust` is given."""
    options: dict[str, Any] = {"timeout": 60.0, "source_address": (source, 0)}
    plain = http.client.HTTPConnection("127.0.0.1", port, **options)
    secure = http.client.HTTPSConnection("127.0.0.1", port, context=trust, **options) if trust else None
    connection = secure or plain
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; a minute and more, else the test fails."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("The condition did not hold.")
