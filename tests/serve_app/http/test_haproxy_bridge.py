"""HAProxy is killed: another stands in at once, and gives way to the next of Serve. Real HAProxy, no Ray."""

import contextlib
import http.client
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from serve_app.http import haproxy
from serve_app.http.haproxy_bridge import Handle, as_bridge, bridge_socket, socket_of, standing_in, watch


class Answers(http.server.BaseHTTPRequestHandler):
    """A replica that answers."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Proxy:
    """HAProxy as Serve's manager starts it: by our launcher, with a config that has the route or not yet."""

    def __init__(self, folder: Path, replica_port: int) -> None:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as probe:
            self.port = probe.server_port
        self.file = folder / "haproxy.cfg"
        self._folder, self._replica = folder, replica_port
        self._program = haproxy.launcher(folder)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str, knows: bool = True) -> subprocess.Popen[bytes]:
        options = HTTPOptions(host="127.0.0.1", port=self.port)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as probe:
            metrics = probe.server_port
        config = HAProxyConfig(
            http_options=options,
            socket_path=f"{self._folder}/s/admin.sock",
            server_state_base=str(self._folder),
            server_state_file=f"{self._folder}/state",
            metrics_socket_path=f"{self._folder}/metrics.sock",
            metrics_port=metrics,
            is_head=True,
        )
        backend = BackendConfig(
            name="http-fastserve",
            path_prefix="/",
            servers=[ServerConfig(name="one", host="127.0.0.1", port=self._replica)],
            app_name="fastserve",
            protocol=RequestProtocol.HTTP,
        )
        api = HAProxyApi(config, {"http-fastserve": backend} if knows else {}, str(self.file))
        api._generate_config_file_internal()
        environment = {**os.environ, haproxy.BINARY_ENV: str(self._program)}
        null = subprocess.DEVNULL
        words = [str(self._program), "-db", "-f", str(self.file), "-dR", *more]
        self.started.append(subprocess.Popen(words, env=environment, stdout=null, stderr=null))
        return self.started[-1]

    def status(self) -> int:
        """Of one request; 0 where nobody listens."""
        return self.answer()[0]

    def answer(self) -> tuple[int, str | None]:
        """Status, and what is told of a degraded mode."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5.0)
        try:
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            return answer.status, answer.headers["x-fastserve-degraded"]
        except OSError:
            return 0, None
        finally:
            connection.close()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until_s = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < until_s
            time.sleep(0.02)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    replica = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=replica.serve_forever, daemon=True).start()
    found = Proxy(tmp_path, replica.server_port)
    yield found
    found.file.with_suffix(".current").write_text("0")  # whatever stands by has nothing to do any more
    for one in found.started:
        one.kill()
        one.wait()
    bridge = standing_in(found.file)
    if bridge is not None:
        os.kill(bridge, signal.SIGKILL)
    replica.shutdown()
    replica.server_close()


def test_another_stands_in_until_serve_has_its_own_again(proxy: Proxy) -> None:
    first = proxy.start()
    proxy.wait_for(lambda: proxy.status() == 200)
    first.kill()
    first.wait()
    proxy.wait_for(lambda: standing_in(proxy.file) is not None and proxy.status() == 200)
    stand_in = standing_in(proxy.file)
    assert stand_in is not None
    bridge = Handle(stand_in)
    assert proxy.answer() == (200, "proxy")

    statuses: set[int] = set()
    second = proxy.start(knows=False)  # of a new manager, which Serve has not told its routes yet

    def gone() -> bool:
        statuses.add(proxy.status())
        return bridge.ended()

    proxy.wait_for(gone)
    assert statuses == {200}
    assert second.poll() is None
    assert [proxy.answer() for _ in range(5)] == [(200, None)] * 5


def test_where_the_pool_s_files_are_gone_nothing_stands_in_any_more(proxy: Proxy) -> None:
    """It would hold the port for ever: nobody can tell it that it has a successor."""
    first = proxy.start()
    proxy.wait_for(lambda: proxy.status() == 200)
    first.kill()
    first.wait()
    proxy.wait_for(lambda: standing_in(proxy.file) is not None)
    stand_in = standing_in(proxy.file)
    assert stand_in is not None
    bridge = Handle(stand_in)
    proxy.file.with_suffix(".current").unlink()
    proxy.wait_for(bridge.ended)


def test_a_reload_leaves_nothing_that_stands_in(proxy: Proxy) -> None:
    first = proxy.start()
    proxy.wait_for(lambda: proxy.status() == 200)
    proxy.start("-sf", str(first.pid), "-x", f"{proxy.file.parent}/s/admin.sock")
    proxy.wait_for(lambda: first.poll() is not None)
    assert [proxy.status() for _ in range(5)] == [200] * 5
    assert standing_in(proxy.file) is None


def test_what_stands_in_has_an_admin_socket_of_its_own() -> None:
    text = "global\n    stats socket /a/admin.sock mode 666 level admin\n"
    assert socket_of(text) == "/a/admin.sock"
    assert socket_of(as_bridge(text)) == bridge_socket(text) == "/a/bridge"
    with pytest.raises(ValueError, match="names no admin socket"):
        socket_of("global\n")


PARENT = """
import subprocess
child = subprocess.Popen(["sleep", "120"])
print(child.pid, flush=True)
child.wait()
"""


def pidfds() -> int:
    """Processes that this one watches."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found += "pidfd" in os.readlink(f"/proc/self/fd/{name}")
    return found


def test_where_ray_is_gone_haproxy_is_told_to_end(tmp_path: Path) -> None:
    """It would share the port with the next pool, and answer a part of its requests with 503."""
    served = subprocess.Popen(["sleep", "120"])
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as raylet:
        assert raylet.stdout is not None
        manager = int(raylet.stdout.readline())
        watching = threading.Thread(
            target=watch, args=("haproxy", tmp_path / "haproxy.cfg", served.pid, manager, [])
        )
        before = pidfds()
        watching.start()
        deadline = time.monotonic() + 60.0
        while (
            pidfds() < before + 3 and time.monotonic() < deadline
        ):  # raylet, manager and HAProxy are watched
            time.sleep(0.02)
        raylet.kill()
    assert served.wait(60.0) == -signal.SIGUSR1
    watching.join(60.0)
    assert not watching.is_alive()
    os.kill(manager, signal.SIGKILL)
