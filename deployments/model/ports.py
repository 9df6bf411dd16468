"""The ports on which model replicas listen: a range, so that a firewall can name them."""

import os
import random
import socket
from typing import Final

PORTS_ENV: Final = "FASTSERVE_REPLICA_PORTS"
PORTS: Final = range(31_001, 32_000)  # beside those of Serve's ingress replicas, 30000 to 31000


def replica_ports() -> range:
    """The range in FASTSERVE_REPLICA_PORTS, such as `31001-31999`. Raises ValueError."""
    text = os.environ.get(PORTS_ENV)
    if not text:
        return PORTS
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) < 65_536):
        raise ValueError(f"{PORTS_ENV} is '{text}', must be two ports such as 31001-31999.")
    return range(int(first), int(last) + 1)


def bound_socket(host: str, ports: range) -> socket.socket:
    """A socket on a free port of the range, by chance. Raises OSError naming the range where none is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(ports, len(ports)):
        # asyncio sends small answers at once on a socket that says it is TCP
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            made.close()
            reason = error
            continue
        return made
    raise OSError(
        f"No port from {ports[0]} to {ports[-1]} is free on '{host}' ({reason}). Widen {PORTS_ENV}."
    ) from reason
