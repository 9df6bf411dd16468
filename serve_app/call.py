"""A checked request: what the dispatcher and the forwarder need to know of a body."""

from dataclasses import dataclass, field
from typing import Any

from serve_app.body.strict_json import Body


@dataclass(slots=True)
class Call:
    """One request to a model, parsed and within the caps. `body` may still be changed before it is sent."""

    path: str  # of the engine, such as /v1/chat/completions
    body: Body
    model: str
    stream: bool = False
    text: str = ""  # the prompt as one string, for features
    turns: int = 1
    max_tokens: int | None = None
    max_tokens_field: str = "max_tokens"
    needs: frozenset[str] = frozenset({"chat"})
    prompt_tokens: int | None = None  # where the prompt came as token ids
    changed: bool = field(default=False)  # `body` is no longer what the caller's bytes say


def set_default(call: Call, defaults: Any) -> None:
    """Generation defaults for fields that the caller left out."""
    for name, value in defaults.items():
        if name not in call.body:
            call.body[name] = value
            call.changed = True
