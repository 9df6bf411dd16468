"""What `fastserve doctor` looks at on this machine: ports, authentication, file modes, store, versions."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

import psutil
from packaging.requirements import Requirement
from sqlalchemy.engine import make_url

DISTRIBUTION: Final = "fastserve-dispatch"
PACKAGES: Final = ("ray", "vllm")  # those whose minor version ties us
_RAY: Final = ("raylet", "gcs_server", "ray/dashboard", "ray/_private", "ray::")
_OURS: Final = ("haproxy", "ray::ServeReplica", "ray::ProxyActor")
_GENERATE: Final = "Run `ray get-auth-token --generate`"
_SECRETS: Final = ("key", "keys.yaml", "fastserve.sqlite3")

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
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return ip_address(self.address.partition("%")[0]).is_loopback


def listeners() -> list[Listener]:
    """The ports of Ray's and our processes that this user may see, each once."""
    found = set()
    for process in psutil.process_iter(["name", "cmdline"]):
        program = f"{process.info['name']} {' '.join(process.info['cmdline'] or ())}"
        if any(part in program for part in (*_RAY, *_OURS)):
            try:
                connections = process.net_connections("inet")
            except psutil.Error:  # it ended meanwhile, or belongs to somebody else
                continue
            listening = (one.laddr for one in connections if one.status == psutil.CONN_LISTEN)
            found |= {Listener(place.ip, place.port, program) for place in listening}
    return sorted(found, key=lambda one: one.port)


def port_findings(found: Iterable[Listener]) -> Iterator[Finding]:
    """A port of ours beyond loopback must be meant; Ray opens its own, which only a firewall keeps."""
    open_ports = [one for one in found if not one.is_local]
    for one in open_ports:
        name = one.program[:60].strip()
        subject = f"port {one.port} on {one.address}"
        if any(part in one.program for part in _OURS):
            yield Finding("problem", subject, name, "Set http_options.host to 127.0.0.1, or mean it.")
        else:
            yield Finding("warning", subject, name, "A port of Ray's own: keep it behind a firewall.")
    if not open_ports:
        yield Finding("ok", "ports", "none of Ray's or ours beyond loopback")


def auth_finding(environ: Mapping[str, str], user_home: Path) -> Finding:
    """Whether Ray asks for its token: whoever reaches a cluster without one can run code in it."""
    mode = environ.get("RAY_AUTH_MODE", "").lower()
    token = Path(environ.get("RAY_AUTH_TOKEN_PATH") or user_home / ".ray" / "auth_token")
    has_token = "RAY_AUTH_TOKEN" in environ or token.is_file()
    if mode == "token" and not has_token:
        return Finding(
            "problem", "Ray's token", "asked for, none found", "Run `ray get-auth-token --generate`."
        )
    if mode == "token" or (not mode and has_token):
        return Finding("ok", "Ray's token", "on")
    return Finding("problem", "Ray's token", "off", f"Set RAY_AUTH_MODE=token where Ray starts. {_GENERATE}.")


def mode_findings(home: Path) -> Iterator[Finding]:
    """The home and what is secret in it are for their owner alone."""
    for path in (home, *(home / name for name in _SECRETS)):
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                wanted = "700" if path.is_dir() else "600"
                yield Finding("problem", str(path), f"mode {mode:o}", f"Run `chmod {wanted} {path}`.")
            else:
                yield Finding("ok", str(path), f"mode {mode:o}")


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
    bounds = {one.name: one.specifier for one in map(Requirement, required) if one.name in PACKAGES}
    for name, specifier in bounds.items():
        try:
            found = installed(name)
        except PackageNotFoundError:
            yield Finding("warning", name, "not installed", f"Install {name}{specifier} where it is needed.")
            continue
        if specifier.contains(found, prereleases=True):
            yield Finding("ok", name, found)
        else:
            yield Finding("problem", name, found, f"Install {name}{specifier}.")


def examine(home: Path, store_url: str) -> list[Finding]:
    """All of it, on this machine, now."""
    return [
        *version_findings(requires(DISTRIBUTION) or (), version),
        *mode_findings(home),
        store_finding(store_url),
        auth_finding(os.environ, Path.home()),
        *port_findings(listeners()),
    ]
