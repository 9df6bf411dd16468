"""What the parts of a config file say of each other: names, routes, models that profiles name, suites."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from deployments.shipped import found
from deployments.suites.suite import SuiteError, load_suite
from serve_app.cluster_file.applications import ENDPOINT, MODEL, App
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.model_names import name_problems, unknown_models
from serve_app.cluster_file.problem import Problem, is_number
from serve_app.cluster_file.serve_part import HAPROXY_ENV, has_haproxy


def reference_problems(document: Document, apps: list[App]) -> Iterator[Problem]:
    """What is wrong between the parts, each of which may be right by itself."""
    yield from _twice(document, apps)
    if apps and not any(app.builder == ENDPOINT for app in apps):
        text = f"has no app with import_path {ENDPOINT}: add the endpoint."
        yield document.problem(("applications",), text)
    models = {str(app.args.get("id")) for app in apps if app.builder == MODEL}
    yield from name_problems(document, apps, models)
    for app in apps:
        yield from _dispatch_problems(document, app, models)
        yield from _evaluator_problems(document, app, models)


def _twice(document: Document, apps: list[App]) -> Iterator[Problem]:
    names: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    routes: dict[str, str] = {}
    for app in apps:
        names[app.name] += 1
        if names[app.name] == 2:
            yield document.problem((*app.place, "name"), f"two apps are called '{app.name}': rename one.")
        if app.builder == MODEL and (model := app.args.get("id")) is not None:
            ids[str(model)] += 1
            if ids[str(model)] == 2:
                yield document.problem((*app.place, "args", "id"), f"two models have the id '{model}'.")
        route = app.values.get("route_prefix", "/")
        if route is not None and str(route) in routes:
            text = f"'{route}' is the route of app '{routes[str(route)]}' too: a model's app needs null."
            yield document.problem((*app.place, "route_prefix"), text)
        elif route is not None:
            routes[str(route)] = app.name


def _dispatch_problems(document: Document, app: App, models: set[str]) -> Iterator[Problem]:
    """Models that a profile names and the file does not have; targets that no request can miss."""
    if app.builder != ENDPOINT:
        return
    place, settings = app.settings("Ingress")
    dispatch, deadlines = _mapping(settings, "dispatch"), _mapping(settings, "deadlines")
    limit_s = deadlines.get("request_s", 300.0)
    for name, profile in _mapping(dispatch, "profiles").items():
        if not isinstance(profile, dict):
            continue
        here = (*place, "dispatch", "profiles", name)
        yield from unknown_models(document, (*here, "allowed"), profile.get("allowed"), models)
        target_s = profile.get("target_s", 0.0)
        if is_number(target_s) and is_number(limit_s) and target_s > limit_s:
            text = f"{target_s:g} s exceeds deadlines.request_s, {limit_s:g} s: no request can take longer."
            yield document.problem((*here, "target_s"), text)
    first_s = deadlines.get("first_byte_s", 60.0)
    if is_number(first_s) and is_number(limit_s) and first_s > limit_s:
        text = f"{first_s:g} s is more than deadlines.request_s, {limit_s:g} s: lower it."
        yield document.problem((*place, "deadlines", "first_byte_s"), text)


def _evaluator_problems(document: Document, app: App, models: set[str]) -> Iterator[Problem]:
    """Suites that are missing or broken, models that the file does not have, and nobody to ask."""
    place, settings = app.settings("Evaluator")
    asks = app.args.get("evaluator") and settings.get("suites")
    if asks and not (settings.get("endpoint") or has_haproxy(document) or os.environ.get(HAPROXY_ENV) == "1"):
        text = (
            "the Evaluator asks ingress replicas at their own addresses, which only HAProxy gives: "
            f"write user_config.endpoint, the endpoint's URL, or switch on {HAPROXY_ENV}."
        )
        yield document.problem(place, text)
    yield from unknown_models(document, (*place, "models"), settings.get("models"), models)
    suites = settings.get("suites") or ()
    for number, name in enumerate(suites if isinstance(suites, list) else ()):
        here = (*place, "suites", number)
        try:
            load_suite(found(str(name)))
        except OSError as error:
            text = f"suite '{name}' cannot be read ({error.strerror}): name a file as in suites/."
            yield document.problem(here, text)
        except SuiteError as error:
            yield document.problem(here, f"suite '{name}' is broken: {error}")


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = values.get(key)
    return inner if isinstance(inner, dict) else {}
