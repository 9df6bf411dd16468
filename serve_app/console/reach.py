"""Where the cluster is and whether it answers, known in seconds and without Ray, which tries for minutes."""

import os
import socket
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from serve_app.console.errors import CommandError, UnreachableError

PROBE_S: Final = 1.5
_FLAG: Final = "--gcs-address="
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and no settings
_SETTINGS: Final = 4  # kind of the frame with which an HTTP/2 server begins
_WAY_OUT: Final = "Start one with `fastserve up`, or name it with --address HOST:PORT."


def reachable(address: str) -> str:
    """HOST:PORT of the cluster's GCS, which answers. Raises UnreachableError, which says what to do."""
    candidates = list(_candidates()) if address == "auto" else [address]
    if not candidates:
        raise UnreachableError(f"No Ray cluster runs on this machine. {_WAY_OUT}")
    for candidate in candidates:
        if _answers(*_parsed(candidate)):
            return candidate
    listed = " and ".join(f"'{candidate}'" for candidate in candidates)
    raise UnreachableError(f"No Ray cluster answers at {listed}. {_WAY_OUT}")


def require_head() -> None:
    """Raises CommandError where the clusters that this machine knows of all have their head on another one.

    Nothing is asked of them: no cluster at all is no reason to refuse.
    """
    import psutil

    heads = [_parsed(candidate)[0] for candidate in _candidates()]
    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    if heads and not any(_is_here(head, own) for head in heads):
        raise CommandError(
            f"This machine belongs to the cluster of '{heads[0]}', where the head node reads the API keys. "
            "Run it there: what is changed here holds nowhere."
        )


def _is_here(host: str, own: set[str]) -> bool:
    """Whether an address or a name leads to this machine."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:  # nobody knows the name: it is not this machine's
        return False
    return any(address in own or ip_address(address).is_loopback for address in found)


def _candidates() -> Iterator[str]:
    """Where `auto` looks, best first: RAY_ADDRESS alone, else the last `ray start`, then what runs here."""
    named = os.environ.get("RAY_ADDRESS", "auto")
    if named not in ("", "auto"):
        yield named
        return
    found = dict.fromkeys((*_last_started(), *_running_here()))
    yield from found


def _last_started() -> Iterator[str]:
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    try:
        yield (folder / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:  # no cluster was started with `ray start`
        return


def _running_here() -> Iterator[str]:
    """The clusters that a raylet of this machine belongs to."""
    import psutil

    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet":
            for argument in process.info["cmdline"] or ():
                if argument.startswith(_FLAG):
                    yield argument.removeprefix(_FLAG)


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UnreachableError(f"Address '{address}': must be HOST:PORT of a Ray head, or auto.")
    return host.strip("[]"), int(port)


def _answers(host: str, port: int) -> bool:
    """Whether a gRPC server is there and alive: a process that hangs accepts connections and says nothing."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":
                return True
            connection.sendall(_PREFACE)
            head = connection.recv(9, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(head) == 9 and head[3] == _SETTINGS
