"""What Ray Serve itself reads of a config file, held against Serve's own types."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from serve_app.cluster_file.applications import App
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Place, Problem
from serve_app.cluster_file.type_check import type_problems, unknown_keys

HAPROXY_ENV: Final = "RAY_SERVE_ENABLE_HA_PROXY"


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
    """Serve would give the certificate to replicas alone, to which HAProxy speaks plain HTTP."""
    options = document.values.get("http_options")
    for key in ("ssl_certfile", "ssl_keyfile"):
        if isinstance(options, dict) and options.get(key) and has_haproxy(document):
            text = "does not work with HAProxy: end TLS in front of the port, as docs/security.md shows."
            yield document.problem(("http_options", key), text)


def has_haproxy(document: Document) -> bool:
    """Whether the file switches on HAProxy, behind which ingress replicas have addresses of their own."""
    inner: Any = document.values
    for key in ("controller_options", "runtime_env", "env_vars", HAPROXY_ENV):
        inner = inner.get(key) if isinstance(inner, dict) else None
    return str(inner) == "1"


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
