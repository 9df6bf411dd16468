"""The door under attack: half-open and trickling connections, bodies without a key, slow readers.

A pool of one simulated model with HAProxy as it is shipped. While an attack holds its connections, an
ordinary caller, who shares an address with it, opens a connection for each of 20 requests. Where this machine
allows fewer open files than the largest attack needs, it is made smaller, and the results say so.
"""

import argparse
import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from scripts.benchmarks.faults.door_attack import HEAD
from scripts.benchmarks.report import Bar, Report, bar
from scripts.benchmarks.serving import served_pool
from serve_app.http.haproxy import door

COUNTS: Final = (300, 4_200, 20_000)
ORDINARY: Final = 20
WITHIN_S: Final = 1.0
HOLD_S: Final = 17.0  # longer than the door's limit on a request, once all are open
REQUEST_S: Final = 15.0
STRANGERS: Final = 400
READERS: Final = 50
READERS_LEFT_S: Final = 60.0  # 30 s without reading, once all buffers on the way are full
MODEL: Final = "simulated"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)), help="connections of the attacks")


def run(args: argparse.Namespace) -> Report:
    """Every attack in turn on one pool."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = door(os.environ, hard).connections * 17 // 20
    bars: list[Bar] = []
    results: dict[str, Any] = {"open_files": hard, "most_connections_here": most}
    with _pool() as pool:
        for wanted in map(int, args.counts.split(",")):
            count = min(wanted, most)
            for addresses in (1, 200):
                name = f"{wanted} from {addresses}"
                results[name] = found = half_open(pool, count, addresses)
                bars += _bars(name, found)
        results["slow bodies with a key"] = found = pool.attacked("slow", 300, ["127.0.0.1"], pool.key)
        bars += _bars("300 slow bodies with a key", found)
        for name, key in (("strangers", ""), ("callers", pool.key)):
            results[name] = memory = held_bodies(pool, key)
            limit = 50.0 if not key else 512.0
            bars.append(
                bar(f"{STRANGERS} {name} with 1.9 MB each: growth, MiB", memory["growth"], "<=", limit)
            )
        results["readers"] = readers = stalled_readers(pool)
        bars.append(bar(f"{READERS} readers that stall: growth, MiB", readers["growth"], "<=", 100.0))
        bars.append(bar("... until all are left, s", readers["left_s"], "<=", READERS_LEFT_S))
        results["endless"] = sent = endless(pool)
        results["files of Ray's logs with the key"] = shown = files_with(pool.key)
        bars.append(bar("files of Ray's logs that show the key", shown, "<=", 0))
        bars.append(bar("body without end: MiB taken beyond the cap", sent - 32.0, "<=", 4.0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Report("door", tuple(bars), results)


def _bars(name: str, found: dict[str, Any]) -> list[Bar]:
    return [
        bar(f"{name}: ordinary requests answered", found["ok"], ">=", ORDINARY),
        bar(f"{name}: slowest of them, s", found["slowest_s"], "<=", WITHIN_S),
        bar(f"{name}: attackers left open", found["open"], "<=", 0),
        bar(f"{name}: answered by, s", found["answered_by_s"], "<=", REQUEST_S + 1.0),
        bar(f"{name}: closed after the answer, s", found["closed_after_answer_s"], "<=", 1.0),
    ]


@dataclass(frozen=True, slots=True)
class Target:
    """The pool under attack."""

    port: int
    key: str

    def ask(self, source: str, **body: object) -> tuple[int, float]:
        """Status and seconds of one request on a connection of its own; 0 where there was no answer."""
        message = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4} | body
        began_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, 10.0, (source, 0))
        try:
            headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(message), headers)
            status = connection.getresponse().status
        except OSError:
            status = 0
        finally:
            connection.close()
        return status, time.monotonic() - began_s

    def attacked(self, kind: str, count: int, addresses: list[str], key: str = "") -> dict[str, Any]:
        """What became of ordinary requests, and of the connections of an attack."""
        with _attack(kind, count, self.port, addresses, key) as attack:
            began_s, times = time.monotonic(), []
            for number in range(ORDINARY):
                times.append(self.ask(addresses[0]))
                time.sleep(max(0.0, began_s + (number + 1) * (REQUEST_S - 2.0) / ORDINARY - time.monotonic()))
            _line(attack)  # all are opened
            opened_s = time.monotonic() - began_s
            time.sleep(HOLD_S)
            found: dict[str, Any] = _told(attack)
        slowest_s = max(took_s for _, took_s in times)
        ok = sum(status == 200 for status, _ in times)
        return {"connections": count, "opened_s": opened_s, "ok": ok, "slowest_s": slowest_s, **found}

    def ingress_mib(self) -> float:
        """Resident memory of the ingress replicas."""
        replicas = (one for one in psutil.process_iter(["cmdline"]) if _is_ingress(one))
        return sum(one.memory_info().rss for one in replicas) / 2**20


def _is_ingress(process: psutil.Process) -> bool:
    return "ServeReplica:fastserve:Ingress" in " ".join(process.info["cmdline"] or ())


def half_open(pool: Target, count: int, addresses: int) -> dict[str, Any]:
    """Headers that do not end, bodies that do not come, bytes that trickle, in equal parts."""
    sources = ["127.0.0.1"] if addresses == 1 else [f"127.1.0.{number + 1}" for number in range(addresses)]
    return pool.attacked("mixed", count, sources)


def held_bodies(pool: Target, key: str) -> dict[str, float]:
    """Memory of the ingress while many hold most of a body."""
    before = pool.ingress_mib()
    with _attack("large", STRANGERS, pool.port, ["127.0.0.1"], key) as attack:
        growth = 0.0
        for _ in range(24):
            time.sleep(0.25)
            growth = max(growth, pool.ingress_mib() - before)
        _line(attack)
        return {"growth": growth, **_told(attack)}


def stalled_readers(pool: Target) -> dict[str, float]:
    """Memory of the ingress, and the seconds until it has left callers who read nothing of their streams."""
    before, growth, ended = pool.ingress_mib(), 0.0, _ended(pool)
    message = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    body = json.dumps(message | {"max_tokens": 8_000, "ignore_eos": True}).encode()
    head = HEAD + b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n"
    sockets = []
    for _ in range(READERS):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", pool.port))
        one.sendall(head % (pool.key.encode(), len(body)) + body)
        sockets.append(one)
    began_s = time.monotonic()
    while time.monotonic() - began_s < 90.0:
        time.sleep(0.5)
        growth = max(growth, pool.ingress_mib() - before)
        if _ended(pool) >= ended + READERS:
            break
    left_s = time.monotonic() - began_s
    for one in sockets:
        one.close()
    return {"growth": growth, "left_s": left_s}


def _ended(pool: Target) -> int:
    """Requests that are over, as the table has counted them."""
    connection = http.client.HTTPConnection("127.0.0.1", pool.port, 10.0)
    connection.request("GET", "/v1/usage", headers={"authorization": f"Bearer {pool.key}"})
    data = json.loads(connection.getresponse().read())["data"]
    connection.close()
    return sum(int(one["requests"]) for one in data)


def endless(pool: Target) -> float:
    """MiB that a caller gets rid of in a chunked body without end, buffers on the way included."""
    head = HEAD + b"authorization: Bearer %s\r\n"
    sent, chunk = 0, b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", pool.port), timeout=10.0) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        one.sendall(head % pool.key.encode() + b"transfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while sent < 256 * 2**20:
                one.sendall(chunk)
                sent += 65_536
    return sent / 2**20


def files_with(secret: str) -> int:
    """Files of this Ray session that show a text which stands in the environment of its processes."""
    from ray._private.worker import global_worker

    assert global_worker.node is not None, "the pool was started here"
    session = Path(global_worker.node.get_session_dir_path())
    files = [file for file in session.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(secret.encode() in file.read_bytes() for file in files)


@contextlib.contextmanager
def _attack(
    kind: str, count: int, port: int, addresses: list[str], key: str
) -> "Iterator[subprocess.Popen[str]]":
    words = [sys.executable, "-m", "scripts.benchmarks.faults.door_attack", kind, str(count), str(port)]
    words += [",".join(addresses), key]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        _line(child)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.terminate()


def _told(child: "subprocess.Popen[str]") -> dict[str, Any]:
    """End an attack, and what it says."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    told: dict[str, Any] = json.loads(_line(child))
    return told


def _line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline()


@contextlib.contextmanager
def _pool() -> Iterator[Target]:
    """The endpoint of cluster.yaml before one simulated model, on a port of its own."""
    document = yaml.safe_load(Path("cluster.yaml").read_text())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    document["http_options"]["port"] = port
    model = next(app for app in document["applications"] if app["name"].startswith("model-"))
    simulated = {"decode_step_s": 0.001, "decode_step_per_sequence_s": 0.0, "mean_output_tokens": 16}
    model |= {"name": f"model-{MODEL}", "deployments": [{"name": "Model"}]}
    model["args"] = {"id": MODEL, "engine": "simulated", "num_cpus": 0.1, "context_tokens": 16_384}
    model["args"]["simulated"] = simulated
    document["applications"] = [document["applications"][0], model]
    with tempfile.TemporaryDirectory(prefix="fastserve-door-") as folder:
        config = Path(folder, "cluster.yaml")
        config.write_text(yaml.safe_dump(document))
        options = argparse.Namespace(config=config, only=None, proxy=None, url=None, address="auto")
        with served_pool.serving(options) as serving:
            target = Target(port, serving.key)
            while target.ask("127.0.0.1")[0] != 200:
                time.sleep(0.2)
            yield target
