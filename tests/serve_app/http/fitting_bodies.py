"""Hooks for schemathesis: bodies that only the pool under test can judge are brought into what it serves.

A generated name of a model is not served, an answer of a billion tokens takes years, and a deadline of a
microsecond is kept; the description cannot know these. All else of a body stays as it was generated.
"""

from typing import Any

import schemathesis

MODEL = "small"  # that the test serves
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_MOST_TOKENS = 64
_LEAST = {"deadline_s": 30, "max_latency_s": 300, "max_cost_usd": 1}


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: Any, body: Any) -> Any:
    """The body as it is sent."""
    if not isinstance(body, dict):
        return body
    model = body.get("model")
    if isinstance(model, str) and 0 < len(model) <= 256 and not model.startswith("auto"):
        body["model"] = MODEL
    limits = [name for name in _LIMITS if type(body.get(name)) in (int, float)]
    for name in limits:
        if _MOST_TOKENS < body[name] <= 2**53:
            body[name] = _MOST_TOKENS
    if body.get("ignore_eos") is True and not limits:
        body["ignore_eos"] = False
    _soften(body.get("fastserve"))
    compared = body.get("comparison")
    if isinstance(compared, dict) and compared.get("decision_id") == body.get("decision_id"):
        compared["decision_id"] = "another"
    return body


def _soften(wishes: Any) -> None:
    """Preferences that some model can meet."""
    if not isinstance(wishes, dict):
        return
    for name, least in _LEAST.items():
        value = wishes.get(name)
        if type(value) in (int, float) and 0 < value < least:
            wishes[name] = least
    models = wishes.get("models")
    if isinstance(models, list) and models and isinstance(models[0], str) and len(models[0]) <= 256:
        models[0] = MODEL
