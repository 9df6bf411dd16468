"""What Ray Serve itself reads of a config file, held against Serve's own types."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from serve_app.cluster_file.applications import App
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Place, Problem
from serve_app.cluster_file.type_check import type_problems, unknown_keys
from serve_app.http.certificate import (
    CHAIN_ENV,
    KEY_ENV,
    Certificate,
    certificate_in,
    end_of,
    require_usable,
)

HAPROXY_ENV: Final = "RAY_SERVE_ENABLE_HA_PROXY"
_VARIABLES: Final = ("controller_options", "runtime_env", "env_vars")


def serve_problems(document: Document, apps: list[App]) -> Iterator[Problem]:
    """What Serve would refuse, and the keys that it would drop without a word."""
    misshapen = list(_misshapen(document))
    if misshapen:
        yield from misshapen
        return
    yield from unknown_keys(document, (), ServeDeploySchema, document.values)
    yield from type_problems(document, (), ServeDeploySchema, document.values)
    yield from _tls_problems(document)
    for app in apps:
        for place, entry in app.deployments():
            here = (*place, "autoscaling_config")
            if isinstance(entry.get("autoscaling_config"), dict):
                yield from unknown_keys(document, here, AutoscalingConfig, entry["autoscaling_config"])
                yield from _autoscaling_problems(document, app, entry["autoscaling_config"])


def _tls_problems(document: Document) -> Iterator[Problem]:
    """Files that HAProxy could not use; Serve's own keys give them to replicas alone, behind HAProxy."""
    options = document.values.get("http_options")
    for key in ("ssl_certfile", "ssl_keyfile"):
        if isinstance(options, dict) and options.get(key) and has_haproxy(document):
            text = f"does not reach HAProxy: write {CHAIN_ENV} and {KEY_ENV} into {'.'.join(_VARIABLES)}."
            yield document.problem(("http_options", key), text)
    try:
        found = certificate_in({name: str(value) for name, value in _variables(document).items()})
        if found is not None:
            require_usable(found)
            _require_service(document, found)
    except ValueError as error:
        yield document.problem((*_VARIABLES, CHAIN_ENV), str(error))


def _require_service(document: Document, certificate: Certificate) -> None:
    """Raises ValueError for a certificate that nobody would show, or whose time is over."""
    if not has_haproxy(document) and os.environ.get(HAPROXY_ENV) != "1":
        raise ValueError(f'only HAProxy shows it: add {HAPROXY_ENV}: "1".')
    ends = end_of(certificate)
    if ends <= datetime.now(UTC):
        raise ValueError(f"'{certificate.chain}' ended on {ends:%Y-%m-%d}: renew it.")


def has_haproxy(document: Document) -> bool:
    """Whether the file switches on HAProxy, behind which ingress replicas have addresses of their own."""
    return str(_variables(document).get(HAPROXY_ENV)) == "1"


def _variables(document: Document) -> dict[str, Any]:
    """What the file puts into the environment of Serve's controller and proxies."""
    inner: Any = document.values
    for key in _VARIABLES:
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner if isinstance(inner, dict) else {}


def _misshapen(document: Document) -> Iterator[Problem]:
    """Lists and mappings that are something else."""
    applications = document.values.get("applications", [])
    for place, entry in _entries(document, ("applications",), applications):
        if isinstance(entry, Problem):
            yield entry
            continue
        for key in ("args", "runtime_env"):
            if key in entry and not isinstance(entry[key], dict):
                yield document.problem((*place, key), "must be a mapping; write {} for an empty one.")
        for _, inner in _entries(document, (*place, "deployments"), entry.get("deployments", [])):
            if isinstance(inner, Problem):
                yield inner


def _entries(document: Document, place: Place, listed: object) -> Iterator[tuple[Place, Any]]:
    """The mappings of a list with their places; a Problem in place of what is none."""
    if not isinstance(listed, list):
        yield place, document.problem(place, "must be a list: begin each entry with a dash.")
        return
    for number, entry in enumerate(listed):
        here = (*place, number)
        wrong = document.problem(here, "must be a mapping with a name: write `name: ...` behind the dash.")
        yield here, entry if isinstance(entry, dict) else wrong


def _autoscaling_problems(document: Document, app: App, values: object) -> Iterator[Problem]:
    try:
        AutoscalingConfig.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            text = str(detail["msg"]).removeprefix("Value error, ")
            yield document.problem((*app.place, "deployments"), f"autoscaling_config: {text}.")
