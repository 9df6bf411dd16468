"""Writes docs/configuration.md from the configuration types themselves, so that it cannot be wrong.

`python -m scripts.config_page [--check]`: the comment behind a field in the source is its explanation.
"""

import inspect
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from deployments.evaluation.settings import EvaluatorSettings
from deployments.learning.settings import LearnerSettings
from deployments.model.config import ModelConfig
from scripts.pages import write_or_check
from serve_app.access.keys import KeyFile
from serve_app.config import IngressConfig, IngressSettings

PAGE: Final = Path("docs/configuration.md")
_INDENT: Final = 4  # of a field in its class
PARTS: Final = (
    ("App `fastserve`: `args`", IngressConfig),
    ("Deployment `Ingress`: `user_config`", IngressSettings),
    ("Deployment `Evaluator`: `user_config`", EvaluatorSettings),
    ("Deployment `Learner`: `user_config`", LearnerSettings),
    ("App `model-<id>`: `args`", ModelConfig),
    ("File `keys.yaml` in the home", KeyFile),
)
_HEAD: Final = """# Configuration

`cluster.yaml` is a Ray Serve config. Everything that Serve itself reads (`http_options`, `deployments`,
`autoscaling_config` and so on) is in Ray's documentation; below are the keys that FastServe reads. An unknown
key fails at load and names the nearest right one. This page is written by `python -m scripts.config_page`.

Environment: `FASTSERVE_HOME` (state, keys and weights; `~/.fastserve`), `FASTSERVE_STORE` (SQLAlchemy URL of
the durable store; SQLite under the home), `FASTSERVE_API_KEY` (in place of the key file),
`FASTSERVE_RETENTION_DAYS` (30) and `FASTSERVE_RETENTION_ROWS` (200000) of the store.
"""


def comments(kind: type[BaseModel]) -> dict[str, str]:
    """The comment behind each field in the class's source, or on the line above it."""
    found: dict[str, str] = {}
    name = above = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        if token.type == tokenize.NAME and token.start[1] == _INDENT:
            name = token.string
            found[name], above = above, ""
        elif token.type == tokenize.COMMENT:
            text = token.string.removeprefix("#").strip()
            if token.start[1] == _INDENT:
                above = text
            else:
                found[name] = text
    return {name: found.get(name, "") for name in kind.model_fields}


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "below"
    shown = str(sorted(value)) if isinstance(value, frozenset) else repr(value)
    return f"`{shown}`"


def _within(annotation: Any, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Types of settings inside a field's type, each with the path of its keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield f"{path}.", annotation
        return
    inside = {dict: f"{path}.<name>", tuple: f"{path}[]"}.get(get_origin(annotation), path)
    for part in get_args(annotation):
        yield from _within(part, inside)


def rows(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of a type's fields; below a field of settings those of its own."""
    said = comments(kind)
    for name, field in kind.model_fields.items():
        path = f"{prefix}{name}"
        default = field.get_default(call_default_factory=True)
        yield f"`{path}`", "required" if field.is_required() else _default(default), said[name]
        for inner, settings in _within(field.annotation, path):
            yield from rows(settings, inner)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, kind in PARTS:
        told = " ".join((inspect.getdoc(kind) or "").split())
        table = ["| key | default | meaning |", "|---|---|---|"]
        table += [f"| {' | '.join(row)} |" for row in rows(kind)]
        parts.append(f"## {title}\n\n{told}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {PAGE: page()}))
