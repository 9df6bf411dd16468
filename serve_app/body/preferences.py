"""What a caller prefers of the dispatch, in `extra_body.fastserve` or `x-fastserve-*` headers."""

from collections.abc import Mapping
from typing import Any, Final

from deployments.dispatch.request import NO_PREFERENCES, Preferences
from deployments.keys.entries import PRIORITIES
from policies.utility import Weights
from serve_app.body import checks
from serve_app.body.calls import Call
from serve_app.body.strict_json import Body
from serve_app.http.errors import bad_request, quoted

FIELD = "fastserve"
_MAX_MODELS = 256
_BATCH_TIER = "flex"  # OpenAI's `service_tier` of requests that may wait
_WEIGHT = checks.number(0.0, 1000.0)
_SECONDS = checks.number(0.0, 86_400.0, above=True)
_USD = checks.number(0.0, 1e6, above=True)
_WEIGHT_NAMES = ("accuracy", "latency", "cost")
_HEADERS = {
    b"x-fastserve-weights": "weights",
    b"x-fastserve-models": "models",
    b"x-fastserve-max-latency-s": "max_latency_s",
    b"x-fastserve-max-cost-usd": "max_cost_usd",
    b"x-fastserve-deadline-s": "deadline_s",
    b"x-fastserve-session": "session",
    b"x-fastserve-priority": "priority",
}
_NAMES = frozenset(_HEADERS.values())
_TEXTS = frozenset({"session", "priority"})

_TOLD: Final[Mapping[str, checks.Check]] = {
    "models": checks.list_of(checks.string(256), _MAX_MODELS, 1),
    "max_latency_s": _SECONDS,
    "max_cost_usd": _USD,
    "deadline_s": _SECONDS,
    "session": checks.string(256),
    "priority": checks.one_of(PRIORITIES),
}


def schema() -> checks.Schema:
    """The object of preferences, in words of JSON Schema."""
    weights = {
        "type": "object",
        "properties": dict.fromkeys(_WEIGHT_NAMES, _WEIGHT.schema),
        "additionalProperties": False,
        "anyOf": [
            {"required": [name], "properties": {name: {"exclusiveMinimum": 0}}} for name in _WEIGHT_NAMES
        ],
    }
    told = checks.object_of(_TOLD)
    told["properties"]["weights"] = checks.nullable(weights)
    return {**checks.nullable(told), "additionalProperties": False}


def take(call: Call, headers: Mapping[bytes, bytes]) -> Preferences:
    """The preferences of a request, taken out of its body. The body wins over a header.

    Raises ApiError (400) naming the field at fault.
    """
    preferences = _from_headers(headers)
    given = _pop(call.body)
    if given is not None:
        call.changed = True
        preferences |= given
    if call.body.get("service_tier") == _BATCH_TIER:
        preferences.setdefault("priority", "batch")
    if not preferences:
        return NO_PREFERENCES
    for name in preferences:
        if name not in _NAMES:
            known = ", ".join(sorted(_NAMES))
            raise bad_request(f"Unknown preference {quoted(name)}. Known: {known}.", f"{FIELD}.{name[:64]}")
    return Preferences(
        weights=_weights(preferences.get("weights")),
        models=_models(preferences.get("models")),
        max_latency_s=_number(preferences, "max_latency_s"),
        max_cost_usd=_number(preferences, "max_cost_usd"),
        deadline_s=_number(preferences, "deadline_s"),
        session=_text(preferences, "session"),
        is_batch=_text(preferences, "priority") == "batch",
    )


def _pop(body: Body) -> dict[str, Any] | None:
    if FIELD not in body:
        return None
    given = body.pop(FIELD)
    return {} if given is None else checks.record(given, FIELD)


def _from_headers(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    preferences: dict[str, Any] = {}
    for header, name in _HEADERS.items():
        raw = headers.get(header)
        if raw is None:
            continue
        text = raw.decode("latin-1").strip()
        if name == "weights":
            preferences[name] = _pairs(text)
        elif name == "models":
            preferences[name] = [entry.strip() for entry in text.split(",")]
        elif name in _TEXTS:
            preferences[name] = text
        else:
            preferences[name] = _header_number(text, f"{FIELD}.{name}")
    return preferences


def _pairs(text: str) -> dict[str, float]:
    """`accuracy=2,latency=1` as an object."""
    pairs = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        pairs[name.strip()] = _header_number(value, f"{FIELD}.weights")
    return pairs


def _header_number(text: str, param: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise bad_request(f"'{param}' must be a number.", param, "invalid_type") from None


def _weights(value: Any) -> Weights | None:
    if value is None:
        return None
    param = f"{FIELD}.weights"
    for name, weight in checks.record(value, param).items():
        if name not in _WEIGHT_NAMES:
            raise bad_request(f"Unknown weight {quoted(name)}. Known: {', '.join(_WEIGHT_NAMES)}.", param)
        _WEIGHT(weight, f"{param}.{name}")
    if not any(value.values()):
        raise bad_request(f"'{param}': at least one weight must be above 0.", param)
    return Weights(*(float(value.get(name, 0.0)) for name in _WEIGHT_NAMES))


def _models(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    _TOLD["models"](value, f"{FIELD}.models")
    return tuple(value)


def _number(preferences: Mapping[str, Any], name: str) -> float | None:
    value = preferences.get(name)
    if value is None:
        return None
    _TOLD[name](value, f"{FIELD}.{name}")
    return float(value)


def _text(preferences: Mapping[str, Any], name: str) -> str | None:
    value = preferences.get(name)
    if value is not None:
        _TOLD[name](value, f"{FIELD}.{name}")
    return None if value is None else str(value)
