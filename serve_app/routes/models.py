"""`/v1/models`: what the pool serves now, with `auto` and the profiles."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from deployments.dispatch.names import aliases
from deployments.records.snapshot import ModelRow, Snapshot
from policies.profile import auto_name
from serve_app.http.errors import model_cold, model_not_found
from serve_app.http.request import Request, Send, send_json
from serve_app.routes.endpoint import Endpoint


class ModelsApi:
    """The routes: all models, or the one that the path names."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def get(self, request: Request, send: Send) -> None:
        """GET /v1/models and /v1/models/{id}. Raises ApiError (401, 403, 404)."""
        key = self._endpoint.authorize(request, "infer", "read")
        snapshot, profiles = self._endpoint.view.snapshot, self._endpoint.settings.dispatch.profiles
        name = request.path.removeprefix("/v1/models").strip("/")
        if name:
            body = model(snapshot, profiles, key.limits.models, name, self._endpoint.configured)
        else:
            body = listing(snapshot, profiles, key.limits.models)
        await send_json(send, body)


def listing(snapshot: Snapshot, profiles: Iterable[str], allowed: tuple[str, ...] | None) -> dict[str, Any]:
    """The body of GET /v1/models."""
    served = _served(snapshot.models, allowed)
    data = [_dispatched(name, snapshot, served) for name in auto_names(profiles)]
    data += [_model(row) for row in served]
    known = {row.card.model: row for row in served}
    others = sorted(aliases(snapshot.models).items())
    data += [
        {**_model(known[name]), "id": alias, "alias_of": name} for alias, name in others if name in known
    ]
    return {"object": "list", "data": data}


def model(
    snapshot: Snapshot,
    profiles: Iterable[str],
    allowed: tuple[str, ...] | None,
    name: str,
    configured: Container[str] = frozenset(),
) -> dict[str, Any]:
    """The body of GET /v1/models/{id}. Raises ApiError (404; 503 for one that is configured and starts)."""
    served = _served(snapshot.models, allowed)
    if name in auto_names(profiles):
        return _dispatched(name, snapshot, served)
    real = aliases(snapshot.models).get(name, name)
    for row in served:
        if row.card.model == real:
            return _model(row) if real == name else {**_model(row), "id": name, "alias_of": real}
    if name in configured and name not in snapshot.models and (allowed is None or name in allowed):
        raise model_cold(name)
    raise model_not_found(name, [row.card.model for row in served])


def auto_names(profiles: Iterable[str]) -> list[str]:
    """`auto` and `auto:<profile>`."""
    return [auto_name(""), *(auto_name(name) for name in sorted(profiles))]


def _served(models: Mapping[str, ModelRow], allowed: tuple[str, ...] | None) -> list[ModelRow]:
    return [models[name] for name in sorted(models) if allowed is None or name in allowed]


def _dispatched(name: str, snapshot: Snapshot, served: list[ModelRow]) -> dict[str, Any]:
    """`auto` is as old as the first model that it could choose."""
    created_s = min((row.created_s for row in served), default=snapshot.taken_at_s)
    return {"id": name, "object": "model", "created": int(created_s), "owned_by": "fastserve"}


def _model(row: ModelRow) -> dict[str, Any]:
    card = row.card
    return {
        "id": card.model,
        "object": "model",
        "created": int(row.created_s),
        "owned_by": card.engine,
        "max_model_len": card.context_tokens,
        "capabilities": sorted(card.capabilities),
        "aliases": list(card.aliases),
        "fallback": list(card.fallback),
        "replicas": len(row.replicas),
    }
