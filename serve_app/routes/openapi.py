"""`/openapi.json`: the API described in OpenAPI 3.1, made from the routes and the fields that are checked."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from serve_app.body.calls import Calls

DISTRIBUTION: Final = "fastserve-dispatch"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "/v1/chat/completions": ("model", "messages"),
    "/v1/completions": ("model", "prompt"),
    "/v1/responses": ("model", "input"),
    "/v1/embeddings": ("model", "input"),
    "/v1/feedback": ("decision_id",),
}
_OPEN: Final = frozenset({"/health", "/ready"})  # without a key


def description(routes: Iterable[tuple[str, str]], calls: Calls) -> dict[str, Any]:
    """The document for these (path, method) pairs; `{name}` in a path is a parameter."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "FastServe", "version": version(DISTRIBUTION)},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
        "paths": {path: {method.lower(): _operation(path, method, calls)} for path, method in routes},
    }


def _operation(path: str, method: str, calls: Calls) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}{path.replace('/', '_').replace('{', '').replace('}', '')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "responses": {"200": _answer(path, calls), "default": _content("An error.", _ref("Error"))},
    }
    if path in _OPEN:
        operation["security"] = []
    if method == "POST":
        operation["requestBody"] = {"required": True, **_json(_body(path, calls))}
    return operation


def _body(path: str, calls: Calls) -> dict[str, Any]:
    """The object that a path takes; fields that are not named go to the engine as they are."""
    required = _REQUIRED.get(path, ())
    names = {*required, *calls.fields(path)}
    return {
        "type": "object",
        "required": list(required),
        "properties": {name: {} for name in sorted(names)},
        "additionalProperties": True,
    }


def _answer(path: str, calls: Calls) -> dict[str, Any]:
    answer = _content("The answer.", {"type": "object"})
    if calls.fields(path) and path != "/v1/embeddings":
        answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return answer


def _content(told: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": told, **_json(schema)}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
