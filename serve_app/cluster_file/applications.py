"""The applications of a config file, each held against the types of what it builds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from deployments.evaluation.settings import EvaluatorSettings
from deployments.learning.settings import LearnerSettings
from deployments.model.config import ModelConfig
from deployments.model.files import BUILTIN, RECIPES
from serve_app.app import CompanionArgs
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Place, Problem, did_you_mean
from serve_app.cluster_file.type_check import type_problems
from serve_app.config import IngressConfig, IngressSettings

ENDPOINT: Final = "serve_app.app:build"
MODEL: Final = "serve_app.app:build_model"
_OURS: Final = "serve_app."


@dataclass(frozen=True, slots=True)
class Builder:
    """What one import path builds: the type of its `args`, and its deployments with their live settings."""

    args: type[BaseModel]
    settings: Mapping[str, type[BaseModel] | None]


_COMPANIONS: Final[Mapping[str, type[BaseModel] | None]] = {
    "Evaluator": EvaluatorSettings,
    "Learner": LearnerSettings,
}
BUILDERS: Final[Mapping[str, Builder]] = {
    ENDPOINT: Builder(IngressConfig, {"Ingress": IngressSettings, **_COMPANIONS}),
    MODEL: Builder(ModelConfig, {"Model": None}),
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
        kind = builder.settings[name]
        if kind is not None and entry.get("user_config") is not None:
            yield from type_problems(document, (*place, "user_config"), kind, entry["user_config"])


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


def _source_complaint(source: str) -> str:
    """Why there is no such source of weights; "" where there is one, or only its hub can tell."""
    if source.startswith(BUILTIN) and source.removeprefix(BUILTIN) not in RECIPES:
        return f"'{source}' is not built in; {did_you_mean(source, [f'{BUILTIN}{name}' for name in RECIPES])}"
    if source.startswith(("/", "./", "../", "~")) and not Path(source).expanduser().is_dir():
        return f"'{source}' is no folder on this machine: name the folder with the weights."
    return ""
