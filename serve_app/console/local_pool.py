"""A private Ray cluster on this machine that runs one Serve config, and nothing else."""

import logging
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml
from tqdm import tqdm

from deployments.ray_token import ensure_token
from serve_app.cluster_file.running import PoolError, Progress, apply_config, wait_until_running
from serve_app.http import haproxy
from serve_app.http.certificate import Certificate, certificate_in, require_usable

LOOPBACK: Final = "127.0.0.2"  # Ray takes 127.0.0.1 for the address by which other machines reach this one


_DRAIN_S: Final = 75.0  # an ingress replica has 60 by default


@contextmanager
def progress_bar(applications: int) -> Iterator[Progress]:
    """Shows on the terminal how many applications run."""
    with tqdm(total=applications, desc="starting", unit="app", file=sys.stderr) as bar:

        def progress(running: int, waiting: str) -> None:
            bar.n = running
            bar.set_postfix_str(waiting)

        yield progress


def _haproxy(folder: str) -> dict[str, str]:
    """Files and ports of this pool's HAProxy alone: Serve's defaults are the same for all on a machine."""
    with socket.socket() as metrics, socket.socket() as stats:
        for probe in (metrics, stats):
            probe.bind(("127.0.0.1", 0))
        return {
            haproxy.BINARY_ENV: str(haproxy.launcher(Path(folder))),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics.getsockname()[1]),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats.getsockname()[1]),
        }


def _certificate(environ: Mapping[str, str]) -> Certificate | None:
    """What HAProxy will show to clients. Raises PoolError, as HAProxy itself would fail in a log."""
    try:
        found = certificate_in(environ)
        if found is not None:
            require_usable(found)
    except ValueError as error:
        raise PoolError(str(error)) from error
    return found


class LocalPool:
    """Starts Ray and the applications of `config`; stops all of it on exit.

    Serve reads its switches from the environment of the process that starts Ray, so those which
    the config hands to the controller are set here first. Everything binds to loopback.
    Raises PoolError for certificate files that HAProxy could not use.
    """

    def __init__(self, config: Path, environment: Mapping[str, str] | None = None) -> None:
        self.document: dict[str, Any] = yaml.safe_load(config.read_text())
        self.names = tuple(app["name"] for app in self.document["applications"])
        controller = self.document.get("controller_options") or {}
        self._folder = tempfile.TemporaryDirectory(prefix="fastserve-")
        self._environment = {
            **_haproxy(self._folder.name),
            **controller.get("runtime_env", {}).get("env_vars", {}),
            "RAY_AUTH_MODE": "token",  # else whoever reaches one of its ports runs code here
            "RAY_worker_niceness": "0",  # Ray's 15 starves engines beside any busy process
            "RAY_USAGE_STATS_ENABLED": "0",
            "TOKENIZERS_PARALLELISM": "false",
            **(environment or {}),
        }
        self.certificate = _certificate({**self._environment, **os.environ})
        options = self.document.get("http_options", {})
        scheme = "http" if self.certificate is None else "https"
        self.base_url = f"{scheme}://{options.get('host', '127.0.0.1')}:{options.get('port', 8000)}"

    def trust(self) -> ssl.SSLContext | None:
        """What takes the pool's own certificate, and no other, under the address of this machine."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(cafile=str(self.certificate.chain))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False  # it names the machine as clients know it
        return context

    def __enter__(self) -> Self:
        for name, value in self._environment.items():
            os.environ.setdefault(name, value)
        ensure_token(os.environ, Path.home())
        import ray  # after the environment: Ray reads it at import

        ray.init(
            address="local",
            _node_ip_address=LOOPBACK,
            dashboard_host="127.0.0.1",
            object_store_memory=200 * 2**20,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        try:
            self.deploy(self.document)
        except BaseException:
            self.stop()
            raise
        return self

    def deploy(self, document: Mapping[str, Any]) -> None:
        """Apply a Serve config; apps that are missing from it are removed."""
        apply_config(document)

    def wait(self, progress: Progress, timeout_s: float = 900.0) -> None:
        """Block until every application runs. Raises PoolError on a failed one or at the timeout."""
        wait_until_running(self.names, progress, timeout_s)

    def wait_with_bar(self) -> None:
        """`wait`, shown on the terminal."""
        with progress_bar(len(self.names)) as progress:
            self.wait(progress)

    def drain(self) -> None:
        """Take the applications away while HAProxy still runs, so that their streams end, within `_DRAIN_S`.

        Serve's own shutdown stops HAProxy at once.
        """
        from ray import serve

        self.deploy({**self.document, "applications": []})
        until_s = time.monotonic() + _DRAIN_S
        while serve.status().applications and time.monotonic() < until_s:
            time.sleep(0.2)

    def stop(self) -> None:
        """Shut Serve down, then Ray; both are private to this process."""
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self._folder.cleanup()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
