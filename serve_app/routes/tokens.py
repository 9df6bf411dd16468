"""/tokenize, /detokenize and Anthropic's count of tokens: a named model's tokenizer answers."""

import secrets
from collections.abc import Callable, Mapping

import aiohttp
import orjson

from deployments.keys.key import Key
from deployments.records.snapshot import ReplicaRow
from policies.profile import is_auto
from serve_app.body import checks
from serve_app.body.calls import Calls
from serve_app.body.checks import Check, Schema
from serve_app.body.described import MAX_TOKEN_ID
from serve_app.body.fields import check_fields
from serve_app.body.strict_json import Body, dump, parse
from serve_app.http.errors import (
    ApiError,
    bad_request,
    from_upstream,
    missing_capability,
    model_asleep,
    model_cold,
    model_not_allowed,
    model_not_found,
    unavailable,
)
from serve_app.http.request import Request, Send, send_bytes, send_json
from serve_app.routes.endpoint import Endpoint

_TEXT_FIELDS: Mapping[str, Check] = {
    "model": checks.string(256, 1),
    "prompt": checks.string(),
    **dict.fromkeys(("add_special_tokens", "return_token_strs"), checks.flag),
}
_TOKENS_FIELDS: Mapping[str, Check] = {
    "model": checks.string(256, 1),
    "tokens": checks.list_of(checks.whole(0, MAX_TOKEN_ID), 1_000_000),
}
_OF_MESSAGES = (
    "model",
    "messages",
    "tools",
    "add_generation_prompt",
    "add_special_tokens",
    "chat_template_kwargs",
    "continue_final_message",
    "return_token_strs",
)
_OF_TEXT = ("model", "prompt", "add_special_tokens", "return_token_strs")


class TokensApi:
    """The routes; a request counts against the key's requests, and costs no tokens."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def tokenize(self, request: Request, send: Send) -> None:
        """POST /tokenize: token ids of `prompt`, or of `messages` in the model's chat template."""
        await send_bytes(send, 200, await self._ask(request, "/tokenize", self._to_tokens))

    async def detokenize(self, request: Request, send: Send) -> None:
        """POST /detokenize: the text of `tokens`."""
        await send_bytes(send, 200, await self._ask(request, "/detokenize", _to_text))

    async def count(self, request: Request, send: Send) -> None:
        """POST /v1/messages/count_tokens, Anthropic's."""

        def build(body: Body) -> Body:
            return self._to_tokens(self._endpoint.calls.translated({"max_tokens": 1, **body}))

        answer = orjson.loads(await self._ask(request, "/tokenize", build))
        await send_json(send, {"input_tokens": answer["count"]})

    async def _ask(self, request: Request, path: str, build: Callable[[Body], Body]) -> bytes:
        """The answer of a replica. Raises ApiError."""
        endpoint = self._endpoint
        key = endpoint.authorize(request, "infer")
        request.require_json()
        body = build(parse(request.body))
        named, model = body["model"], endpoint.dispatcher.real_name(body["model"])
        if not key.may_use(model):
            raise model_not_allowed(named)
        body["model"] = model
        row = self._replica(model, key)
        reservation = await endpoint.limiter.enter(key, 0)
        try:
            return await self._post(row, path, body)
        finally:
            endpoint.limiter.settle(reservation, 0, 0.0)

    def _replica(self, model: str, key: Key) -> ReplicaRow:
        models = self._endpoint.view.snapshot.models
        if is_auto(model):
            raise bad_request("Tokens are those of one model: name it in 'model'.", "model")
        if model not in models:
            is_cold = model in self._endpoint.configured
            raise (
                model_cold(model) if is_cold else model_not_found(model, sorted(filter(key.may_use, models)))
            )
        row = self._endpoint.forwarder.pick(model)
        if row is None and models[model].ready_in_s > 0.0:
            self._endpoint.dispatcher.planner.name(model)
            raise model_asleep(model, models[model].ready_in_s)
        if row is None:
            raise unavailable(f"No healthy replica can answer for '{model}'.")
        return row

    async def _post(self, row: ReplicaRow, path: str, body: Body) -> bytes:
        name = f"t-{secrets.token_hex(8)}"
        try:
            answer = await self._endpoint.forwarder.post(row, path, dump(body), name)
            async with answer:
                said = await answer.read()
        except (aiohttp.ClientError, OSError):
            raise unavailable(f"The replica of '{row.model}' did not answer.", "upstream_failed") from None
        if answer.status == 404:
            raise missing_capability(["tokenize"], row.model)
        if answer.status != 200:
            raise (
                from_upstream(answer.status, said)
                if answer.status < 500
                else unavailable(f"No replica of '{row.model}' could count.", "upstream_failed")
            )
        return said

    def _to_tokens(self, body: Body) -> Body:
        """What the engine is asked. Raises ApiError (400)."""
        check_fields(body, _TEXT_FIELDS)
        if body.get("messages") is None:
            for name in ("prompt", "model"):
                _require(body, name)
            return _kept(body, _OF_TEXT)
        self._endpoint.calls.chat(body)  # the same rules as for a chat
        return _kept(body, _OF_MESSAGES)


def _to_text(body: Body) -> Body:
    check_fields(body, _TOKENS_FIELDS)
    for name in ("tokens", "model"):
        _require(body, name)
    return {"model": body["model"], "tokens": body["tokens"]}


def _require(body: Body, name: str) -> None:
    if body.get(name) is None:
        raise ApiError(400, f"'{name}' is required.", code="missing_required_parameter", param=name)


def _kept(body: Body, names: tuple[str, ...]) -> Body:
    return {name: body[name] for name in names if body.get(name) is not None}


def bodies(calls: Calls) -> dict[str, Schema]:
    """The bodies that these paths take, in words of JSON Schema."""
    named = {"type": "string", "minLength": 1, "maxLength": 256, "not": {"pattern": "^auto(:|$)"}}
    chat = calls.described("/v1/chat/completions")
    text = checks.object_of(_TEXT_FIELDS, ("model", "prompt"))
    text["properties"]["messages"] = {"type": "null"}
    flags = {name: {"type": ["boolean", "null"]} for name in ("add_special_tokens", "return_token_strs")}
    chat["properties"] |= {"prompt": {"type": ["string", "null"]}, **flags}
    message = calls.described("/v1/messages")
    message["required"].remove("max_tokens")
    message["properties"]["max_tokens"] = checks.nullable(message["properties"]["max_tokens"])
    tokens = checks.object_of(_TOKENS_FIELDS, ("model", "tokens"))
    for body in (chat, text, message, tokens):
        body["properties"]["model"] = named
    return {
        "/tokenize": {"anyOf": [text, chat]},
        "/detokenize": tokens,
        "/v1/messages/count_tokens": message,
    }
