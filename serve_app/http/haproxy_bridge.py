"""Stands by one HAProxy; where it is killed, another answers at once, until Serve has started its own again.

Serve notices the loss by health checks, half a minute later, and starts a manager that knows no routes at
first. `python haproxy_bridge.py BINARY CONFIG PID MANAGER [OLDER...]`, started by serve_app/http/haproxy.py,
waits for the end of PID. What it then starts has the same config but for the admin socket: Serve must see
that its own is gone. Three files beside the config tell of it: `.routes`, the last config that had routes;
`.current`, the process that was started last; `.bridge`, the one that stands in. While PID lives, it is
handed the certificate's files when they were renewed.
"""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

LAPSE_S: Final = 60.0  # from the end of Serve's manager: on a busy machine the next one took 35 s
_FRONTEND: Final = "frontend http_frontend\n"
_TOLD: Final = "x-fastserve-degraded"
_STEP_S: Final = 0.1
_LOOK_S: Final = 1.0  # between looks at whether Ray is still there
_ADMIN_S: Final = 10.0  # for HAProxy to answer on its admin socket
_LIVED_S: Final = 1.0  # a bridge that ends sooner cannot start


def routes_of(config: Path) -> Path:
    """The last config that had routes."""
    return config.with_suffix(".routes")


def socket_of(text: str) -> str:
    """The admin socket of a config. Raises ValueError for a config without one."""
    found = re.search(r"^\s*stats socket (\S+)", text, re.M)
    if found is None:
        raise ValueError("HAProxy's config names no admin socket. Use Ray 2.60.")
    return found[1]


def bridge_socket(text: str) -> str:
    """The admin socket of what stands in for a config; short, as HAProxy takes 97 characters."""
    return str(Path(socket_of(text)).with_name("bridge"))


def as_bridge(text: str) -> str:
    """The config of what stands in: an admin socket of its own, and answers that tell of it."""
    text = text.replace(f"stats socket {socket_of(text)} ", f"stats socket {bridge_socket(text)} ")
    return text.replace(_FRONTEND, f"{_FRONTEND}    http-after-response add-header {_TOLD} proxy\n")


def standing_in(config: Path) -> int | None:
    """The process that stands in for this config now."""
    pid = _number(config.with_suffix(".bridge"))
    return pid if pid is not None and _is_haproxy(pid) else None


def note_current(config: Path, pid: int) -> None:
    """Say which process was started last."""
    replace(config.with_suffix(".current"), str(pid))


def stand_by(binary: str, config: Path, older: list[str]) -> None:
    """Start this program for the process that calls, which is about to become HAProxy; nobody's child."""
    words = [sys.executable, "-I", __file__, binary, str(config), str(os.getpid()), str(os.getppid()), *older]
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            os.execv(words[0], words)
        os._exit(0)
    os.wait()


def replace(path: Path, text: str) -> None:
    """Write a file whole: whoever reads it sees the old text or the new."""
    partial = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def _text(config: Path) -> str:
    """The config, "" where it is gone already."""
    with contextlib.suppress(OSError):
        return config.read_text()
    return ""


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _is_haproxy(pid: int) -> bool:
    """Whether a process runs, and is HAProxy: a number may belong to another by now."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and Path(f"/proc/{pid}/comm").read_text().strip() == "haproxy"
    return False


class Renewal:
    """Hands certificate files that changed to HAProxy, which reads them by itself only when it starts."""

    def __init__(self, text: str) -> None:
        """`text` is the config that HAProxy was started with."""
        found = re.search(r"^\s*bind \S+ ssl crt (\S+)", text, re.M)
        self._name = found[1] if found else ""
        self._files = (Path(self._name), Path(f"{self._name}.key")) if found else ()
        self._socket = socket_of(text) if found else ""
        # Not those of now: they may have been renewed since HAProxy read them.
        self._taken: list[tuple[int, int, int]] = []

    def look(self) -> None:
        """Where the files are others than before, and are a pair, HAProxy goes on with them."""
        with contextlib.suppress(OSError):  # half-way through being replaced, or HAProxy has just ended
            now = self._signature()
            if now != self._taken and self._hand_over():
                self._taken = now

    def _signature(self) -> list[tuple[int, int, int]]:
        try:
            found = [file.stat() for file in self._files]
        except OSError:
            return []
        return [(one.st_mtime_ns, one.st_ino, one.st_size) for one in found]

    def _hand_over(self) -> bool:
        lines = (line.strip() for file in self._files for line in file.read_text().splitlines())
        text = "\n".join(line for line in lines if line)  # an empty line ends it
        self._told(f"set ssl cert {self._name} <<\n{text}\n\n")
        return "Success" in self._told(f"commit ssl cert {self._name}\n")

    def _told(self, command: str) -> str:
        """What HAProxy answers on its admin socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ADMIN_S)
            connection.connect(self._socket)
            connection.sendall(command.encode())
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


class Handle:
    """A process that may end; not another one that gets its number later."""

    def __init__(self, pid: int) -> None:
        try:
            self._file: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._file = None

    def drain(self) -> None:
        """Tell HAProxy to accept nothing more and to end with what it has."""
        if self._file is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._file, signal.SIGUSR1)

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether it has ended, after at most `wait_s`."""
        if self._file is None:
            return True
        watched = select.poll()
        watched.register(self._file, select.POLLIN)
        return bool(watched.poll(1000.0 * wait_s))


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def watch(binary: str, config: Path, pid: int, manager: int, older: list[int]) -> None:
    """Wait for the end of `pid`; stand in where nobody has replaced it. Where Ray is gone, end it."""
    try:
        raylet = Handle(_parent(manager))
    except OSError:
        return  # what started HAProxy is gone already
    serve, served, renewal = Handle(manager), Handle(pid), Renewal(_text(config))
    while not served.ended(wait_s=_LOOK_S):
        if raylet.ended():  # nothing is behind it any more, and it would share the port with the next pool
            served.drain()
            return
        if _number(config.with_suffix(".current")) == pid:
            renewal.look()
    if _number(config.with_suffix(".current")) != pid:
        return  # a reload: its successor has a watcher of its own
    alive = [one for one in older if _is_haproxy(one)]
    if alive:  # a reload that failed: the one before goes on, and is watched
        note_current(config, alive[0])
        return
    routes = routes_of(config)
    if routes.exists():
        _stand_in(binary, config, as_bridge(routes.read_text()), pid, (serve, raylet))


def _stand_in(binary: str, config: Path, text: str, pid: int, above: tuple[Handle, Handle]) -> None:
    """Run what stands in until Serve has its own again, or is gone."""
    file = config.with_suffix(".bridge.cfg")
    file.write_text(text)
    gone_s: float | None = None
    while True:
        began_s = time.monotonic()
        with (
            config.with_suffix(".bridge.log").open("wb") as log,
            subprocess.Popen([binary, "-db", "-f", str(file), "-dR"], stdout=log, stderr=log) as bridge,
        ):
            replace(config.with_suffix(".bridge"), str(bridge.pid))
            while bridge.poll() is None:
                time.sleep(_STEP_S)
                current, (serve, raylet) = _number(config.with_suffix(".current")), above
                if raylet.ended() or current is None:  # the pool is gone, maybe its files already
                    bridge.kill()
                    return
                if current != pid:
                    bridge.wait()  # its successor has told it to finish what it has
                    return
                if serve.ended():
                    gone_s = gone_s or time.monotonic()
                if gone_s is not None and time.monotonic() - gone_s > LAPSE_S:
                    bridge.send_signal(signal.SIGUSR1)
                    bridge.wait()
                    return
        if time.monotonic() - began_s < _LIVED_S:
            return


if __name__ == "__main__":
    watch(
        sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), [int(one) for one in sys.argv[5:]]
    )
