"""`/openapi.json`: the API described in OpenAPI 3.1, made from the routes and the checks of their bodies."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from deployments.records.operation import OPERATIONS
from serve_app.body import preferences
from serve_app.body.calls import Calls
from serve_app.body.checks import Schema
from serve_app.routes import feedback, tokens

DISTRIBUTION: Final = "fastserve-dispatch"
_STATUSES: Final[Mapping[int, str]] = {
    400: "A value that is not accepted; `param` names its field.",
    401: "No key, or one that does not hold.",
    402: "The upstream of the model has no money left.",
    403: "The key lacks the role, or may not use the model.",
    404: "There is no such thing.",
    408: "The body took too long to arrive.",
    409: "It contradicts what is there already.",
    413: "The body is too large.",
    415: "The body's type or encoding is not supported.",
    422: "The model cannot work with the request.",
    429: "A limit of the key, of the pool or of the model's upstream; `retry-after` says when to come again.",
    500: "A defect of the server.",
    502: "The model's upstream failed.",
    503: "Nothing can answer now; `retry-after` says when to come again.",
    504: "No answer within the deadline.",
}
_ALWAYS: Final = (400, 500)
_KEYED: Final = (*_ALWAYS, 401, 403, 503)
_SENT: Final = (*_KEYED, 408, 413, 415, 429)
_ASKED: Final = (*_SENT, 402, 404, 409, 422, 502, 504)
_OF_PATH: Final[Mapping[str, tuple[int, ...]]] = {
    "/health": _ALWAYS,
    "/ready": (*_ALWAYS, 503),
    "/v1/models/{model}": (*_KEYED, 404),
    "/v1/feedback": (*_SENT, 404, 409),
}
_OPEN: Final = frozenset({"/health", "/ready"})  # without a key

_STRING: Final[Schema] = {"type": "string"}
_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_WHOLE: Final[Schema] = {"type": "integer"}
_LIST: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_DETAIL: Final[Schema] = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {"message": _STRING, "type": _STRING, "param": _OR_NULL, "code": _OR_NULL},
}
_ERRORS: Final[Mapping[str, Schema]] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _DETAIL}},
    "MessagesError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {"type": {"const": "error"}, "error": _DETAIL},
    },
}
_FIELDS: Final[Mapping[str, Schema]] = {
    **dict.fromkeys(("id", "object", "type", "role"), _STRING),
    **dict.fromkeys(("choices", "output", "content", "data", "results"), _LIST),
    "created": _WHOLE,
}
"""Fields of the answers of models; see `Operation.answer`."""
_ANSWERS: Final[Mapping[str, Mapping[str, Schema]]] = {
    **{path: {name: _FIELDS[name] for name in one.answer} for path, one in OPERATIONS.items()},
    "/v1/messages/count_tokens": {"input_tokens": _WHOLE},
    "/tokenize": {"count": _WHOLE, "tokens": {"type": "array", "items": _WHOLE}},
    "/detokenize": {"prompt": _STRING},
    "/v1/dispatch/explain": {},
    "/v1/feedback": {"object": _STRING, "decision_id": _STRING, "status": _STRING},
    "/v1/models": {"object": _STRING, "data": _LIST},
    "/v1/models/{model}": {"id": _STRING, "object": _STRING, "created": _WHOLE},
    "/v1/usage": {"object": _STRING, "data": _LIST},
    "/health": {"status": _STRING},
    "/ready": {"status": _STRING},
    "/openapi.json": {"openapi": _STRING, "paths": {"type": "object"}},
}


def description(routes: Iterable[tuple[str, str]], calls: Calls) -> dict[str, Any]:
    """The document for these (path, method) pairs; `{name}` in a path is a parameter."""
    bodies = _bodies(calls)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FastServe", "version": version(DISTRIBUTION)},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _ERRORS,
        },
        "paths": {
            path: {method.lower(): _operation(path, method, bodies.get(path))} for path, method in routes
        },
    }


def _bodies(calls: Calls) -> dict[str, Schema]:
    """What each path takes; fields that are not named go to the engine as they are."""
    bodies: dict[str, Schema] = {path: _with_preferences(calls.described(path)) for path in OPERATIONS}
    either = [bodies["/v1/completions"], _without_prompt(bodies["/v1/chat/completions"])]
    return {
        **bodies,
        **tokens.bodies(calls),
        "/v1/dispatch/explain": {"anyOf": either},
        "/v1/feedback": feedback.body_schema(),
    }


def _with_preferences(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "properties": {**body["properties"], preferences.FIELD: preferences.schema()}}


def _without_prompt(body: Schema) -> Schema:
    return {**body, "properties": {**body["properties"], "prompt": {"type": "null"}}}


def _operation(path: str, method: str, body: Schema | None) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    statuses = _OF_PATH.get(path, _KEYED if body is None else _ASKED)
    error = "MessagesError" if path.startswith("/v1/messages") else "Error"
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}{path.replace('/', '_').replace('{', '').replace('}', '')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ],
        "responses": {
            "200": _answer(path),
            **{str(status): _content(_STATUSES[status], _ref(error)) for status in sorted(statuses)},
        },
    }
    if path in _OPEN:
        operation["security"] = []
    if body is not None:
        operation["requestBody"] = {"required": True, **_json(body)}
    return operation


def _answer(path: str) -> dict[str, Any]:
    properties = _ANSWERS[path]
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    answer = _content("The answer.", schema)
    if path in OPERATIONS and OPERATIONS[path].generates:
        answer["content"]["text/event-stream"] = {"schema": {}}
    return answer


def _content(told: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": told, **_json(schema)}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
