"""Replicas listen within a range that a firewall can name."""

import socket

import pytest

from deployments.model.ports import PORTS, PORTS_ENV, bound_socket, replica_ports


def test_the_range_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PORTS_ENV, raising=False)
    assert replica_ports() == PORTS
    monkeypatch.setenv(PORTS_ENV, "40000-40001")
    assert list(replica_ports()) == [40000, 40001]


@pytest.mark.parametrize("text", ["1", "a-b", "2-1", "0-5", "5-70000", "-"])
def test_a_range_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORTS_ENV, text)
    with pytest.raises(ValueError, match=f"{PORTS_ENV} is '{text}'"):
        replica_ports()


def test_a_free_port_of_the_range_is_taken_and_a_full_range_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"No port from {port} to {port} is free"):
            bound_socket("127.0.0.1", range(port, port + 1))
    with bound_socket("127.0.0.1", range(port, port + 1)) as made:
        assert made.getsockname() == ("127.0.0.1", port)
