"""Writes docs/configuration.md from the configuration types themselves, so that it cannot be wrong.

`python -m scripts.config_page [--check]`: the comment behind a field in the source is its explanation, its
example is the field's own (`examples=`), else the value in a shipped config, else the default.
"""

import inspect
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.evaluation.settings import EvaluatorSettings
from deployments.keys.entries import KeyFile
from deployments.learning.settings import LearnerSettings
from deployments.model.config import ModelConfig
from deployments.model.settings import ModelSettings
from deployments.scaling.settings import PlanSettings
from scripts.config_words import shown, type_and_bounds
from scripts.pages import write_or_check
from serve_app.config import DashboardConfig, IngressConfig, IngressSettings

PAGE: Final = Path("docs/configuration.md")
SHIPPED: Final = (Path("cluster.yaml"), Path("cluster.gpu.yaml"))
_INDENT: Final = 4  # of a field in its class
_ENDPOINT, _MODEL = "serve_app.app:build", "serve_app.app:build_model"
_DASHBOARD = "serve_app.dashboard.app:build"


@dataclass(frozen=True, slots=True)
class Part:
    """One table of the page: a type of settings, and where a shipped config has such settings."""

    title: str
    kind: type[BaseModel]
    builder: str = ""  # import path of the app; "" where no config file holds these settings
    deployment: str = ""  # whose `user_config` it is; "" for the app's `args`


PARTS: Final = (
    Part("App `fastserve`: `args`", IngressConfig, _ENDPOINT),
    Part("Deployment `Ingress`: `user_config`", IngressSettings, _ENDPOINT, "Ingress"),
    Part("Deployment `Evaluator`: `user_config`", EvaluatorSettings, _ENDPOINT, "Evaluator"),
    Part("Deployment `Learner`: `user_config`", LearnerSettings, _ENDPOINT, "Learner"),
    Part("App `dashboard`: `args`", DashboardConfig, _DASHBOARD),
    Part("App `model-<id>`: `args`", ModelConfig, _MODEL),
    Part("Deployment `Model`: `user_config`", ModelSettings, _MODEL, "Model"),
    Part("Deployment `Model`: `autoscaling_config.policy.policy_kwargs`", PlanSettings),
    Part("File `keys.yaml` in the home", KeyFile),
)
_HEAD: Final = """# Configuration

`cluster.yaml` is a Ray Serve config. Ray's documentation explains the keys that Serve reads itself, such as
`http_options`, `deployments` and `num_replicas`. The tables below list the keys that FastServe reads. An
unknown key is refused when the file is loaded, and the error names the nearest known key.
`python -m scripts.config_page` writes this page.

A key `a.b` is key `b` inside `a`; `<name>` is a name that you choose; `[]` is one entry of a list. Values are
YAML. "none" means: leave the key out, or set it to `null`. "required" means that there is no default.

| environment variable | meaning | default |
|---|---|---|
| `FASTSERVE_HOME` | Directory of state, keys and weights. | `~/.fastserve` |
| `FASTSERVE_STORE` | SQLAlchemy URL of the durable store. | SQLite in the home |
| `FASTSERVE_STORE_KEY_FILE` | File with the keys that seal records of requests. | `store.key` in the home |
| `FASTSERVE_KEY_FILE` | File with the API keys, on the head node. | `keys.yaml` in the home |
| `FASTSERVE_API_KEY` | On the head node: key that replaces the key file. Elsewhere: for commands. | none |
| `FASTSERVE_REPLICA_PORTS` | Ports of model replicas, on each node. | `31001-31999` |
| `FASTSERVE_RETENTION_DAYS` | Days for which decisions, outcomes and votes are kept. | `30` |
| `FASTSERVE_RETENTION_ROWS` | Number of decisions that are kept. | `200000` |
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the page shows it."""

    key: str
    type: str  # with its bounds
    default: str
    example: str  # "" for a group of settings, whose own rows follow
    meaning: str

    def line(self) -> str:
        """The row of the table."""
        cells = (f"`{self.key}`", self.type, self.default, self.example, self.meaning)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def comments(kind: type[BaseModel]) -> dict[str, str]:
    """The comment behind each field in the class's source, or on the lines above it."""
    found: dict[str, str] = {}
    name, above = "", list[str]()
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        if token.type == tokenize.NAME and token.start[1] == _INDENT:
            name = token.string
            found[name], above = " ".join(above), []
        elif token.type == tokenize.COMMENT:
            text = token.string.removeprefix("#").strip()
            if token.start[1] == _INDENT:
                above.append(text)
            else:
                found[name] = text
    return {name: found.get(name, "") for name in kind.model_fields}


def _within(annotation: Any, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Types of settings inside a field's type, each with the path of its keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield path, annotation
        return
    inside = {dict: f"{path}.<name>", tuple: f"{path}[]"}.get(get_origin(annotation), path)
    for part in get_args(annotation):
        yield from _within(part, inside)


def rows(kind: type[BaseModel], shipped: tuple[Any, ...] = (), prefix: str = "") -> Iterator[Row]:
    """The settings of a type, those of a group after it; `shipped`: the same settings in shipped files."""
    said, properties = comments(kind), kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        path, schema = f"{prefix}{name}", properties[name]
        values = tuple(each[name] for each in shipped if isinstance(each, Mapping) and name in each)
        groups = list(_within(field.annotation, path))
        examples = [*(field.examples or ()), *values]
        yield Row(
            key=path,
            type=_group_type(schema) if groups else type_and_bounds(schema),
            default=_default(field),
            example="" if groups else shown(examples[0]) if examples else _default(field),
            meaning=said[name],
        )
        for inner, settings in groups:
            yield from rows(settings, _inside(values, inner.removeprefix(path)), f"{inner}.")


def kinds(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A type of settings and every type inside it."""
    yield kind
    for field in kind.model_fields.values():
        for _, inner in _within(field.annotation, ""):
            yield from kinds(inner)


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    return "below" if isinstance(default, BaseModel) else shown(default)


def _group_type(schema: Mapping[str, Any]) -> str:
    return {"array": "list of settings", "object": "map of names to settings"}.get(
        schema.get("type", ""), "settings"
    )


def _inside(values: tuple[Any, ...], step: str) -> tuple[Any, ...]:
    """The values one level further in: entries of a list, values of a map, or the same."""
    if step == ".<name>":
        return tuple(entry for value in values for entry in value.values())
    return tuple(entry for value in values for entry in value) if step == "[]" else values


@cache
def _shipped(part: Part) -> tuple[Any, ...]:
    """The settings of a part in the shipped configs."""
    if not part.builder:
        return ()
    documents = [yaml.safe_load(path.read_text()) for path in SHIPPED]
    apps = [app for each in documents for app in each["applications"] if app["import_path"] == part.builder]
    if not part.deployment:
        return tuple(app["args"] for app in apps)
    deployments = [entry for app in apps for entry in app["deployments"] if entry["name"] == part.deployment]
    return tuple(entry["user_config"] for entry in deployments)


def all_rows() -> Iterator[Row]:
    """Every row of the page."""
    for part in PARTS:
        yield from rows(part.kind, _shipped(part))


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for part in PARTS:
        told = " ".join((inspect.getdoc(part.kind) or "").split())
        table = ["| key | type and bounds | default | example | meaning |", "|---|---|---|---|---|"]
        table += [row.line() for row in rows(part.kind, _shipped(part))]
        parts.append(f"## {part.title}\n\n{told}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
