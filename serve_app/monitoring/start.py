"""Prometheus and Grafana as two processes on loopback, which end together."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deployments.listening import LOOPBACK
from serve_app.monitoring.files import CONFIG, PROVISIONING

_LOOK_S: Final = 0.5
_END_S: Final = 10.0
_HOMES: Final = ("/usr/share/grafana", "/opt/grafana")  # of Grafana's packages; else as it is told


class MissingProgramError(RuntimeError):
    """A program that was to be started is not there, or ended by itself."""


class Started:
    """Runs both while the context lasts. Raises MissingProgramError where one is not installed."""

    def __init__(self, folder: Path, prometheus_port: int, grafana_port: int) -> None:
        self._folder = folder
        self._commands = {
            "Prometheus": self._prometheus(prometheus_port),
            "Grafana": self._grafana(grafana_port),
        }
        self._environment = os.environ | _grafana_settings(folder, grafana_port)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        for name, arguments in self._commands.items():
            self._running[name] = subprocess.Popen(arguments, env=self._environment, start_new_session=True)
        return self

    def wait(self) -> None:
        """Return at Ctrl-C. Raises MissingProgramError when one of them ends by itself."""
        while not self._stop.wait(_LOOK_S):
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise MissingProgramError(f"{name} ended by itself with code {process.returncode}.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _prometheus(self, port: int) -> Sequence[str]:
        return (
            _program("prometheus"),
            f"--config.file={self._folder / CONFIG}",
            f"--web.listen-address={LOOPBACK}:{port}",
            f"--storage.tsdb.path={self._folder / 'prometheus/data'}",
            "--log.level=warn",
        )

    def _grafana(self, port: int) -> Sequence[str]:
        home = next((home for home in _HOMES if Path(home).is_dir()), "")
        return (_program("grafana"), "server", *([f"--homepath={home}"] if home else ()))


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(f"'{name}' is not in the PATH. Install it, or leave out --start.")
    return found


def _grafana_settings(folder: Path, port: int) -> Mapping[str, str]:
    """Grafana's settings: to be read without a sign-in on this machine, and shown inside Ray's page."""
    return {
        "GF_SERVER_HTTP_ADDR": LOOPBACK,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_PROVISIONING": str(folder / PROVISIONING),
        "GF_PATHS_DATA": str(folder / "grafana/data"),
        "GF_SECURITY_ALLOW_EMBEDDING": "true",
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    }
