"""`/v1/models`: what the pool serves now, with `auto` and the profiles."""

from collections.abc import Iterable, Mapping
from typing import Any

from deployments.records.snapshot import ModelRow, Snapshot
from policies.profile import auto_name
from serve_app.http.errors import model_not_found

_CREATED = 0  # OpenAI's clients want the field; a model of the pool has no date that means anything


def listing(snapshot: Snapshot, profiles: Iterable[str], allowed: tuple[str, ...] | None) -> dict[str, Any]:
    """The body of GET /v1/models."""
    data = [_dispatched(name) for name in auto_names(profiles)]
    data += [_model(row) for row in _served(snapshot.models, allowed)]
    return {"object": "list", "data": data}


def one(
    snapshot: Snapshot, profiles: Iterable[str], allowed: tuple[str, ...] | None, name: str
) -> dict[str, Any]:
    """The body of GET /v1/models/{id}. Raises ApiError (404)."""
    if name in auto_names(profiles):
        return _dispatched(name)
    served = _served(snapshot.models, allowed)
    for row in served:
        if row.card.model == name:
            return _model(row)
    raise model_not_found(name, [row.card.model for row in served])


def auto_names(profiles: Iterable[str]) -> list[str]:
    """`auto` and `auto:<profile>`."""
    return [auto_name(""), *(auto_name(name) for name in sorted(profiles))]


def _served(models: Mapping[str, ModelRow], allowed: tuple[str, ...] | None) -> list[ModelRow]:
    return [models[name] for name in sorted(models) if allowed is None or name in allowed]


def _dispatched(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "fastserve"}


def _model(row: ModelRow) -> dict[str, Any]:
    card = row.card
    return {
        "id": card.model,
        "object": "model",
        "created": _CREATED,
        "owned_by": card.engine,
        "max_model_len": card.context_tokens,
        "capabilities": sorted(card.capabilities),
        "replicas": len(row.replicas),
    }
