"""One attack of `bench.py door`, in a process of its own: `KIND COUNT PORT ADDRESSES KEY`.

Opens the connections, prints a line, holds them until each was closed or standard input ends, and prints what
became of them as JSON. It never sends to anything but loopback.
"""

import asyncio
import json
import sys
import time
from typing import Final

HEAD: Final = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
LARGE: Final = 1_900_000
AT_ONCE: Final = 256  # connections being opened
TRICKLE_S: Final = 3.0


class Held(asyncio.Protocol):
    """One connection: what it sends at first, a byte now and then if it trickles, and what came back when."""

    def __init__(self, first: bytes, trickle: bytes) -> None:
        self.first, self.trickle = first, trickle
        self.opened_s = time.monotonic()
        self.answered_s = self.closed_s = 0.0
        self.status = ""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.first)

    def data_received(self, data: bytes) -> None:
        self.answered_s = self.answered_s or time.monotonic()
        self.status = self.status or data[9:12].decode("latin-1")

    def connection_lost(self, error: Exception | None) -> None:
        self.closed_s = time.monotonic()

    def drip(self) -> None:
        """Send one more byte."""
        if self.trickle and not self.closed_s and self.transport is not None:
            self.transport.write(self.trickle)


def made(kind: str, number: int, key: str) -> Held:
    """The connection of this number in an attack of this kind; `mixed` takes turns."""
    kind = ("head", "body", "trickle")[number % 3] if kind == "mixed" else kind
    authorization = b"authorization: Bearer %s\r\n" % key.encode() if key else b""
    long = HEAD + authorization + b"content-length: 2000000\r\n\r\n"
    match kind:
        case "head":
            return Held(HEAD + b"x-a: ", b"")
        case "body":
            return Held(HEAD + b"content-length: 100\r\n\r\n{", b"")
        case "trickle":
            return Held(HEAD + b"x-a: ", b"a")
        case "slow":
            return Held(long + b" " * 30_000, b" ")
        case "large":
            return Held(long + b" " * LARGE, b"")
    raise SystemExit(f"Attack '{kind}' is not known.")


async def attack(kind: str, count: int, port: int, addresses: list[str], key: str) -> None:
    """Open, hold, tell."""
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
    held = [made(kind, number, key) for number in range(count)]
    refused = 0

    async def connect(number: int) -> None:
        nonlocal refused
        async with gate:
            source = (addresses[number % len(addresses)], 0)
            held[number].opened_s = time.monotonic()
            try:
                await loop.create_connection(lambda: held[number], "127.0.0.1", port, local_addr=source)
            except OSError:
                refused += 1

    opening = [asyncio.create_task(connect(number)) for number in range(count)]
    print("begun", flush=True)
    opened = asyncio.gather(*opening)
    opened.add_done_callback(lambda _: print("opened", flush=True))
    ended = loop.run_in_executor(None, sys.stdin.readline)
    while not ended.done():
        await asyncio.wait([ended], timeout=TRICKLE_S)
        for one in held:
            one.drip()
    await opened
    print(json.dumps(found(held, refused)), flush=True)


def found(held: list[Held], refused: int) -> dict[str, object]:
    """What became of the connections, times in seconds since each was opened."""
    reached = [one for one in held if one.transport is not None]
    answered = [one for one in reached if one.answered_s]
    closed = [one for one in answered if one.closed_s]
    return {
        "refused": refused + sum(1 for one in reached if one.closed_s and not one.answered_s),
        "answered": len(answered),
        "statuses": sorted({one.status for one in answered}),
        "open": sum(1 for one in reached if not one.closed_s),
        "answered_by_s": max((one.answered_s - one.opened_s for one in answered), default=0.0),
        "closed_after_answer_s": max((one.closed_s - one.answered_s for one in closed), default=0.0),
    }


if __name__ == "__main__":
    _kind, _count, _port, _addresses, _key = sys.argv[1:]
    asyncio.run(attack(_kind, int(_count), int(_port), _addresses.split(","), _key))
