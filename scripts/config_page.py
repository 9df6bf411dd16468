"""Writes docs/configuration.md from the configuration types themselves, so that it cannot be wrong.

`python -m scripts.config_page [--check]`: the comment behind a field in the source is its explanation.
"""

import argparse
import inspect
import io
import sys
import tokenize
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from deployments.evaluator_settings import EvaluatorSettings
from deployments.learner_settings import LearnerSettings
from deployments.model_config import ModelConfig
from serve_app.config import IngressConfig, IngressSettings

PAGE: Final = Path("docs/configuration.md")
_PARTS: Final = (
    ("App `fastserve`: `args`", "A change restarts the app's replicas.", IngressConfig),
    ("Deployment `Ingress`: `user_config`", "Live: a change restarts nothing.", IngressSettings),
    ("Deployment `Evaluator`: `user_config`", "Live: a change restarts nothing.", EvaluatorSettings),
    ("Deployment `Learner`: `user_config`", "Live: a change restarts nothing.", LearnerSettings),
    ("App `model-<id>`: `args`", "A change restarts that model's replicas, and no other's.", ModelConfig),
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
    """The comment on each field's line of the class's source."""
    found: dict[str, str] = {}
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        if token.type == tokenize.NAME and token.start[1] == 4:
            name = token.string
        elif token.type == tokenize.COMMENT and name in kind.model_fields:
            found[name] = token.string.removeprefix("#").strip()
    return found


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "below"
    shown = str(sorted(value)) if isinstance(value, frozenset) else repr(value)
    return f"`{shown}`"


def _rows(kind: type[BaseModel], prefix: str = "") -> list[str]:
    """Table rows of a type and, below each nested one, of its fields."""
    rows, said = [], comments(kind)
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        required = "required" if field.is_required() else _default(default)
        rows.append(f"| `{prefix}{name}` | {required} | {said.get(name, '')} |")
        if isinstance(default, BaseModel):
            rows += _rows(type(default), f"{prefix}{name}.")
    return rows


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, effect, kind in _PARTS:
        told = (inspect.getdoc(kind) or "").splitlines()[0]
        table = ["| key | default | meaning |", "|---|---|---|", *_rows(kind)]
        parts.append(f"## {title}\n\n{told} {effect}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def main() -> int:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if the stored page is out of date")
    if parser.parse_args().check:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
