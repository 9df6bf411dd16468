"""The applications of a config file, each held against the types of what it builds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from deployments.evaluation.settings import EvaluatorSettings
from deployments.learning.settings import LearnerSettings
from deployments.model.autoscaling import ONGOING_REQUESTS, PLANNED_REPLICAS
from deployments.model.config import SHUTDOWN_MARGIN_S, SHUTDOWN_S, ModelConfig
from deployments.model.files import BUILTIN, RECIPES
from deployments.model.settings import ModelSettings
from deployments.scaling.settings import PlanSettings
from policies.strict import StrictModel
from serve_app.app import CompanionArgs
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Place, Problem, did_you_mean, is_number
from serve_app.cluster_file.type_check import type_problems
from serve_app.config import DashboardConfig, IngressConfig, IngressSettings

ENDPOINT: Final = "serve_app.app:build"
MODEL: Final = "serve_app.app:build_model"
DASHBOARD: Final = "serve_app.dashboard.app:build"
DASHBOARD_ROUTE: Final = "/dashboard"
_OURS: Final = "serve_app."


@dataclass(frozen=True, slots=True)
class Builder:
    """What one import path builds: the type of its `args`, and its deployments with their live settings."""

    args: type[BaseModel]
    settings: Mapping[str, type[BaseModel]]


_COMPANIONS: Final[Mapping[str, type[BaseModel]]] = {
    "Evaluator": EvaluatorSettings,
    "Learner": LearnerSettings,
}
BUILDERS: Final[Mapping[str, Builder]] = {
    ENDPOINT: Builder(IngressConfig, {"Ingress": IngressSettings, **_COMPANIONS}),
    MODEL: Builder(ModelConfig, {"Model": ModelSettings}),
    DASHBOARD: Builder(DashboardConfig, {"Dashboard": StrictModel}),
    "serve_app.app:evaluator": Builder(CompanionArgs, {"Evaluator": EvaluatorSettings}),
    "serve_app.app:learner": Builder(CompanionArgs, {"Learner": LearnerSettings}),
}


@dataclass(frozen=True, slots=True)
class App:
    """One entry under `applications`, and where it stands."""

    place: Place
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name, or what stands in its place."""
        return str(self.values.get("name", "default"))

    @property
    def builder(self) -> str:
        """Its import path."""
        return str(self.values.get("import_path", ""))

    @property
    def args(self) -> Mapping[str, Any]:
        """Its arguments; nothing where they are no mapping."""
        args = self.values.get("args") or {}
        return args if isinstance(args, dict) else {}

    def deployments(self) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """Its entries under `deployments`, and where they stand."""
        listed = self.values.get("deployments") or []
        for number, entry in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(entry, dict):
                yield (*self.place, "deployments", number), entry

    def settings(self, deployment: str) -> tuple[Place, Mapping[str, Any]]:
        """The `user_config` of a deployment and where it stands; empty where there is none."""
        for place, entry in self.deployments():
            if entry.get("name") == deployment and isinstance(entry.get("user_config"), dict):
                return (*place, "user_config"), entry["user_config"]
        return self.place, {}


def apps_of(document: Document) -> list[App]:
    """The applications that are mappings."""
    listed = document.values.get("applications")
    entries = enumerate(listed if isinstance(listed, list) else [])
    return [App(("applications", number), entry) for number, entry in entries if isinstance(entry, dict)]


def app_problems(document: Document, app: App) -> Iterator[Problem]:
    """What is wrong inside one application."""
    builder = BUILDERS.get(app.builder)
    if builder is None:
        if app.builder.startswith(_OURS):
            text = f"'{app.builder}' builds no app; {did_you_mean(app.builder, BUILDERS)}"
            yield document.problem((*app.place, "import_path"), text)
        return
    yield from type_problems(document, (*app.place, "args"), builder.args, app.args)
    yield from _deployment_problems(document, app, builder)
    if app.builder == MODEL:
        yield from _model_problems(document, app)
    if app.builder == ENDPOINT and app.values.get("route_prefix", "/") != "/":
        yield document.problem((*app.place, "route_prefix"), "must be / for the endpoint's app.")
    if app.builder == DASHBOARD and app.values.get("route_prefix", "/") != DASHBOARD_ROUTE:
        text = f"must be {DASHBOARD_ROUTE} for the dashboard's app."
        yield document.problem((*app.place, "route_prefix"), text)


def _deployment_problems(document: Document, app: App, builder: Builder) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for place, entry in app.deployments():
        name = str(entry.get("name", ""))
        names[name] = names.get(name, 0) + 1
        if name not in builder.settings:
            text = f"'{name}' is no deployment of {app.builder}; {did_you_mean(name, builder.settings)}"
            yield document.problem((*place, "name"), text)
            continue
        if names[name] > 1:
            yield document.problem((*place, "name"), f"'{name}' is listed twice: put both entries together.")
        if app.builder == ENDPOINT and name in _COMPANIONS and not app.args.get(name.lower()):
            text = f"'{name}' is not switched on: set args.{name.lower()} to true, or remove this entry."
            yield document.problem((*place, "name"), text)
        if "user_config" in entry:
            here = (*place, "user_config")
            if entry["user_config"] is None:
                yield document.problem(here, "is null: remove the line, or write {} for the defaults.")
            else:
                yield from type_problems(document, here, builder.settings[name], entry["user_config"])


def _model_problems(document: Document, app: App) -> Iterator[Problem]:
    if app.values.get("route_prefix", "/") is not None:
        text = "must be null for a model's app, or it takes the endpoint's route: write route_prefix: null."
        yield document.problem((*app.place, "route_prefix"), text)
    try:
        config = ModelConfig.model_validate(app.args)
    except ValueError:  # reported with the types
        return
    if app.name != config.app_name:
        text = f"'{app.name}' must be '{config.app_name}', after the model's id."
        yield document.problem((*app.place, "name"), text)
    if complaint := _source_complaint(config.source):
        yield document.problem((*app.place, "args", "source"), complaint)
    longest = config.engine_args.get("max-model-len", config.engine_args.get("max_model_len"))
    if isinstance(longest, int) and longest < config.context_tokens:
        text = f"{config.context_tokens} exceeds engine_args.max-model-len, {longest}: lower one of them."
        yield document.problem((*app.place, "args", "context_tokens"), text)
    for place, entry in app.deployments():
        yield from _replica_problems(document, place, entry, config)


def _replica_problems(
    document: Document, place: Place, entry: Mapping[str, Any], config: ModelConfig
) -> Iterator[Problem]:
    """What Serve's options for the replicas and the model's live settings say against each other."""
    scaling = entry.get("autoscaling_config")
    if isinstance(scaling, dict):
        yield from _scaling_problems(document, (*place, "autoscaling_config"), scaling)
    settings = entry.get("user_config")
    if not isinstance(settings, dict):
        return
    drain_s, limit_s = settings.get("drain_s", 0.0), entry.get("graceful_shutdown_timeout_s", SHUTDOWN_S)
    if is_number(drain_s) and is_number(limit_s) and drain_s + SHUTDOWN_MARGIN_S > limit_s:
        text = (
            f"{drain_s:g} s is longer than Serve waits for the replica: write graceful_shutdown_timeout_s: "
            f"{drain_s + SHUTDOWN_MARGIN_S:g} beside user_config."
        )
        yield document.problem((*place, "user_config", "drain_s"), text)
    if settings.get("faults") is not None and config.engine != "simulated":
        text = "goes with engine 'simulated' only: take it out."
        yield document.problem((*place, "user_config", "faults"), text)


def _scaling_problems(document: Document, place: Place, scaling: Mapping[str, Any]) -> Iterator[Problem]:
    """What of an `autoscaling_config` would not do what it says."""
    policy = scaling.get("policy")
    function = policy.get("policy_function") if isinstance(policy, dict) else None
    if not isinstance(policy, dict) or function not in (ONGOING_REQUESTS, PLANNED_REPLICAS):
        text = (
            "must name a policy of ours, as Serve does not count requests that come by HTTP: write "
            f"policy: {{policy_function: {ONGOING_REQUESTS}}}, or {PLANNED_REPLICAS.partition(':')[2]} there."
        )
        yield document.problem((*place, "policy"), text)
    elif function == PLANNED_REPLICAS:
        kwargs = policy.get("policy_kwargs") or {}
        yield from type_problems(document, (*place, "policy", "policy_kwargs"), PlanSettings, kwargs)
        for delay in ("upscale_delay_s", "downscale_delay_s"):
            if scaling.get(delay) != 0:
                yield document.problem((*place, delay), "must be 0 for this policy, which waits by itself.")
    elif scaling.get("min_replicas") == 0:
        text = f"0 needs policy_function: {PLANNED_REPLICAS}: by this policy nothing would wake the model."
        yield document.problem((*place, "min_replicas"), text)


def _source_complaint(source: str) -> str:
    """Why there is no such source of weights; "" where there is one, or only its hub can tell."""
    if source.startswith(BUILTIN) and source.removeprefix(BUILTIN) not in RECIPES:
        return f"'{source}' is not built in; {did_you_mean(source, [f'{BUILTIN}{name}' for name in RECIPES])}"
    if source.startswith(("/", "./", "../", "~")) and not Path(source).expanduser().is_dir():
        return f"'{source}' is no folder on this machine: name the folder with the weights."
    return ""
