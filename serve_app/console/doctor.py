"""What `fastserve doctor` looks at on this machine: ports, authentication, file modes, store, versions."""

import os
import resource
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, Self

import psutil
from sqlalchemy.engine import make_url

from deployments.bound_versions import bounds, declared
from deployments.keys.file import FORBIDDEN_MODE
from deployments.model.ports import replica_ports
from deployments.ray_token import token_file
from serve_app.http.certificate import certificate_in, end_of, require_usable
from serve_app.http.haproxy import BINARY_ENV, CONNECTIONS, CONNECTIONS_ENV, MONITOR_ENV, door

_RAY: Final = ("raylet", "gcs_server", "ray/dashboard", "ray/_private", "ray::")
_OF_SERVE: Final = (
    ("RAY_SERVE_HAPROXY_METRICS_PORT", "9101"),
    ("RAY_SERVE_HAPROXY_STATS_PORT", "8404"),
    ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "30000"),
    ("RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT", "31000"),
)
_PYTHON_PROXY: Final = "ray::ProxyActor"
_OF_AN_ACTOR: Final = "::"  # where Ray opens one port of its own for every actor
_REPLICA: Final = "ray::ServeReplica"
_MEAN_IT: Final = "Set http_options.host to 127.0.0.1, or mean it."
_MONITOR: Final = (
    f"Leave {MONITOR_ENV} empty, or mean it; HAProxy starts by {BINARY_ENV}, see docs/security.md."
)
_BETWEEN_NODES: Final = "HAProxy and replicas of other nodes come here: keep it behind a firewall."
_GENERATE: Final = "Run `ray get-auth-token --generate`"
_RENEWED_DAYS: Final = 14  # before its end, by which those who renew by themselves have done it
_SECRETS: Final = ("key", "keys.audit.jsonl", "store.key", "fastserve.sqlite3")

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is empty where all is well."""

    level: Level
    subject: str
    state: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that accepts connections, and whose."""

    address: str
    port: int
    program: str  # name and command line

    @property
    def name(self) -> str:
        """The program's name, which Ray's processes give twice; of Python also what it runs."""
        name, _, line = self.program.partition(" ")
        files = [Path(word).name for word in line.split()[1:] if not word.startswith("-")]
        return f"{name} {files[0]}" if name.startswith("python") and files else name

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return ip_address(self.address.partition("%")[0]).is_loopback

    @property
    def is_everywhere(self) -> bool:
        """Whether it takes connections to any address of this machine."""
        return ip_address(self.address.partition("%")[0]).is_unspecified


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of ours by their purpose; Ray and the kernel choose all others."""

    monitors: frozenset[int]  # HAProxy's metrics and statistics
    replicas: tuple[range, ...]  # of the ingress, and of models

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """As the environment has them, with Serve's own defaults."""
        metrics, statistics, first, last = (int(environ.get(name, default)) for name, default in _OF_SERVE)
        return cls(frozenset((metrics, statistics)), (range(first, last + 1), replica_ports()))

    def is_replica(self, port: int) -> bool:
        """Whether replicas of the ingress or of models listen there."""
        return any(port in ports for ports in self.replicas)


def listeners(processes: Iterable[psutil.Process] | None = None) -> list[Listener]:
    """The ports of Ray's and our processes that this user may see, each once; of `processes` if given."""
    found = set()
    for process in psutil.process_iter() if processes is None else processes:
        try:
            program = f"{process.name()} {' '.join(process.cmdline())}"
            if any(part in program for part in (*_RAY, "haproxy")):
                opened = (
                    one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN
                )
                found |= {Listener(place.ip, place.port, program) for place in opened}
        except psutil.Error:  # it ended meanwhile, or belongs to somebody else
            continue
    return sorted(found, key=lambda one: one.port)


def port_findings(found: Iterable[Listener], ports: Ports) -> Iterator[Finding]:
    """A port of ours beyond loopback must be meant; Ray opens its own, which only a firewall keeps."""
    open_ports = [one for one in found if not one.is_local]
    for one in open_ports:
        name = one.name
        subject = f"port {one.port} on {one.address}"
        is_haproxy = one.program.startswith("haproxy")
        if is_haproxy and one.port in ports.monitors:
            yield Finding("problem", subject, name, _MONITOR)
        elif is_haproxy or (_PYTHON_PROXY in one.program and one.address != _OF_AN_ACTOR):
            yield Finding("problem", subject, name, _MEAN_IT)
        elif _REPLICA in one.program and ports.is_replica(one.port):
            yield Finding("problem" if one.is_everywhere else "warning", subject, name, _BETWEEN_NODES)
        else:
            yield Finding("warning", subject, name, "A port of Ray's own: keep it behind a firewall.")
    if not open_ports:
        yield Finding("ok", "ports", "none of Ray's or ours beyond loopback")


def auth_finding(environ: Mapping[str, str], user_home: Path) -> Finding:
    """Whether Ray asks for its token: whoever reaches a cluster without one can run code in it."""
    mode = environ.get("RAY_AUTH_MODE", "").lower()
    token = token_file(environ, user_home)
    has_token = "RAY_AUTH_TOKEN" in environ or token.is_file()
    if mode == "token" and not has_token:
        return Finding(
            "problem", "Ray's token", "asked for, none found", "Run `ray get-auth-token --generate`."
        )
    if "RAY_AUTH_TOKEN" not in environ and has_token and token.stat().st_mode & FORBIDDEN_MODE:
        return Finding("problem", "Ray's token", f"others may read {token}", f"Run `chmod 600 {token}`.")
    if mode == "token" or (not mode and has_token):
        return Finding("ok", "Ray's token", "on")
    return Finding("problem", "Ray's token", "off", f"Set RAY_AUTH_MODE=token where Ray starts. {_GENERATE}.")


def mode_findings(home: Path, keys: Path) -> Iterator[Finding]:
    """The home and what is secret in it are for their owner alone; the key file's group may read it."""
    for path in (home, *(home / name for name in _SECRETS), keys):
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & (FORBIDDEN_MODE if path == keys else 0o077):
                wanted = "700" if path.is_dir() else "600"
                yield Finding("problem", str(path), f"mode {mode:o}", f"Run `chmod {wanted} {path}`.")
            else:
                yield Finding("ok", str(path), f"mode {mode:o}")


def files_finding(files: int, environ: Mapping[str, str]) -> Finding:
    """How many connections HAProxy may hold, by the limit on open files."""
    limits = door(environ, files)
    subject, state = "open files", f"{files}: {limits.connections} connections at once"
    if limits.connections < int(environ.get(CONNECTIONS_ENV) or CONNECTIONS):
        return Finding("warning", subject, state, "Raise `ulimit -n` where Ray starts.")
    return Finding("ok", subject, state)


def certificate_findings(environ: Mapping[str, str], now: datetime) -> Iterator[Finding]:
    """Whether HAProxy can use the certificate that the environment names, and for how long."""
    try:
        found = certificate_in(environ)
        if found is None:
            return
        require_usable(found)
    except ValueError as error:
        yield Finding("problem", "certificate", str(error), "Without it HAProxy does not start.")
        return
    days = (end_of(found) - now).days
    subject, state = f"certificate {found.chain}", f"ends in {days} days"
    renew = "Renew it: HAProxy takes the new files within seconds."
    if days >= _RENEWED_DAYS:
        yield Finding("ok", subject, state)
    else:
        yield Finding("warning" if days >= 0 else "problem", subject, state, renew)


def store_finding(url: str) -> Finding:
    """Whether the durable store can be read; a SQLite file is checked as it is, nothing is written."""
    parsed = make_url(url)
    subject = f"store {parsed.render_as_string(hide_password=True)}"
    if parsed.get_backend_name() != "sqlite":
        return Finding("ok", subject, "another database: `fastserve status` says how the table fares with it")
    file = Path(parsed.database or "")
    if not file.exists():
        return Finding("ok", subject, "not made yet")
    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=2.0)
        try:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict == "ok":
        return Finding("ok", subject, "sound")
    return Finding("problem", subject, verdict, "Stop the cluster and restore the last backup.")


def version_findings(required: Iterable[str], installed: Callable[[str], str]) -> Iterator[Finding]:
    """Versions of what ties us to one minor version, against the bounds that this version declares."""
    for name, specifier in bounds(required).items():
        try:
            found = installed(name)
        except PackageNotFoundError:
            yield Finding("warning", name, "not installed", f"Install {name}{specifier} where it is needed.")
            continue
        if specifier.contains(found, prereleases=True):
            yield Finding("ok", name, found)
        else:
            yield Finding("problem", name, found, f"Install {name}{specifier}.")


def _installed(name: str) -> str:
    """The version of a package, whatever distribution brought it: vLLM for CPU has a name of its own.

    Raises PackageNotFoundError.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        brought_by = packages_distributions().get(name)
        if not brought_by:
            raise
        return version(brought_by[0])


def examine(home: Path, keys: Path, store_url: str) -> list[Finding]:
    """All of it, on this machine, now."""
    return [
        *version_findings(declared(), _installed),
        *mode_findings(home, keys),
        store_finding(store_url),
        auth_finding(os.environ, Path.home()),
        *certificate_findings(os.environ, datetime.now(UTC)),
        files_finding(resource.getrlimit(resource.RLIMIT_NOFILE)[1], os.environ),
        *port_findings(listeners(), Ports.of(os.environ)),
    ]
