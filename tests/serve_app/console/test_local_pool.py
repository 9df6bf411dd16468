"""The pool of one machine before it starts: its URL, and whose certificate its own commands take."""

import socket
import ssl
import threading
from pathlib import Path

import pytest
import yaml

from serve_app.cluster_file.running import PoolError
from serve_app.console.local_pool import LocalPool
from serve_app.http.certificate import CHAIN_ENV, KEY_ENV, Certificate
from tests.certificates import Authority


def pool_with(folder: Path, found: Certificate | None) -> LocalPool:
    variables = {CHAIN_ENV: str(found.chain), KEY_ENV: str(found.key)} if found else {}
    document = {
        "http_options": {"host": "127.0.0.1", "port": 8123},
        "controller_options": {"runtime_env": {"env_vars": variables}},
        "applications": [],
    }
    (folder / "pool.yaml").write_text(yaml.safe_dump(document))
    return LocalPool(folder / "pool.yaml")


def shakes_hands(shown: Certificate, trust: ssl.SSLContext) -> bool:
    """Whether a client that trusts so accepts what is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*shown)
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=lambda: _served(context, theirs), daemon=True)
    server.start()
    try:
        trust.wrap_socket(ours, server_hostname="127.0.0.1").close()
        return True
    except ssl.SSLError:
        ours.close()
        return False
    finally:
        server.join(60.0)


def _served(context: ssl.SSLContext, connection: socket.socket) -> None:
    try:
        context.wrap_socket(connection, server_side=True).close()
    except OSError:
        connection.close()


def test_with_a_certificate_the_url_is_https_and_that_certificate_alone_is_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, other = authority.sign("pool.example"), authority.sign("other.example")
    pool = pool_with(tmp_path, own)
    assert pool.base_url == "https://127.0.0.1:8123"
    trust = pool.trust()
    assert trust is not None
    assert shakes_hands(own, trust)
    assert not shakes_hands(other, trust)


def test_without_one_it_is_plain_http(tmp_path: Path) -> None:
    pool = pool_with(tmp_path, None)
    assert pool.base_url == "http://127.0.0.1:8123"
    assert pool.trust() is None


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="name a PEM file"):
        pool_with(tmp_path, Certificate(Path("/nowhere/tls.crt"), Path("/nowhere/tls.key")))
