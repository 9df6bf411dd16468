"""`fastserve up` as a process of its own: until it serves, where its cluster is, and until it has stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.integration.running import ROOT, free_ports

CHECKOUT = (sys.executable, "-m", "serve_app")
_SERVES = "Ctrl-C stops everything."


def own_environment(home: Path) -> dict[str, str]:
    """The environment of a user whose home is `home`, with ports of Serve's own that nobody else uses."""
    metrics, statistics, low = free_ports(3)
    low = 20_000 + low % 5_000
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "RAY_", "FASTSERVE"))
    }
    return {
        **kept,
        "HOME": str(home),
        "FASTSERVE_HOME": str(home / "home"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(statistics),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(low + 400),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(low + 500),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(low + 900),
    }


def checkout_environment(home: Path) -> dict[str, str]:
    """The same, for commands of this checkout from any folder."""
    return {**own_environment(home), "PYTHONPATH": str(ROOT)}


@contextmanager
def up(program: Sequence[str], config: Path, environ: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The process, once it serves; commands with `environ` find its cluster. Ctrl-C ends it."""
    folder, log = config.parent, config.with_suffix(".log")
    with log.open("wb") as written:
        words = [*program, "up", str(config)]
        process = subprocess.Popen(words, cwd=folder, env=environ, stdout=written, stderr=written)
        try:
            _wait(process, log)
            environ["RAY_ADDRESS"] = _cluster_of(process.pid)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120.0)


def printed(words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run(
        words, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def _wait(process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(1200):
        if _SERVES in log.read_text():
            return
        assert process.poll() is None, log.read_text()[-4000:]
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])


def _cluster_of(pid: int) -> str:
    (raylet,) = [one for one in psutil.Process(pid).children(recursive=True) if one.name() == "raylet"]
    return next(word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--gcs-address="))
