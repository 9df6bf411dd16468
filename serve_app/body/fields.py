"""Which fields a body may have, and the bounds of each; fields not named here pass through unread."""

from collections.abc import Mapping
from typing import Any

from serve_app.body import checks
from serve_app.body.checks import (
    MAX_INT,
    Check,
    Schema,
    flag,
    instead,
    list_of,
    members,
    number,
    one_of,
    only,
    record,
    refused,
    string,
    text,
    thing,
    whole,
    words,
)
from serve_app.body.schemas import MOST_VALUES, check_cost
from serve_app.body.strict_json import Body, depth, dump, parse
from serve_app.config import Caps
from serve_app.http.errors import ApiError, bad_request

_URL_KINDS = frozenset({"image_url", "video_url", "audio_url", "input_image"})
_INLINE = frozenset({"input_audio"})


def check_kind(part: dict[str, Any], kind: str, param: str) -> None:
    """Raises ApiError (400) for a part that is no known medium."""
    if kind in _INLINE:
        checks.record(part.get(kind), f"{param}.{kind}")
        return
    if kind not in _URL_KINDS:
        raise bad_request(f"Parts of type '{kind[:64]}' are not accepted.", f"{param}.type")
    holder = part.get("image_url" if kind == "input_image" else kind)
    checks.text(holder.get("url") if isinstance(holder, dict) else holder, f"{param}.{kind}")


_NAME_CHARS = 256
REFUSED_FIELDS = (
    "cache_salt",
    "chat_template",
    "ec_transfer_params",
    "guided_grammar",
    "guided_regex",
    "kv_transfer_params",
    "logits_processors",
    "media_io_kwargs",
    "mm_payload",
    "mm_processor_kwargs",
    "previous_response_id",
    "priority",
    "prompt_embeds",
    "prompt_logprobs",
    "request_id",
    "return_mm_kwargs",
    "vllm_xargs",
)
_FLAGS = (
    "add_generation_prompt",
    "add_special_tokens",
    "continue_final_message",
    "echo",
    "enable_response_messages",
    "ignore_eos",
    "include_reasoning",
    "include_stop_str_in_output",
    "parallel_tool_calls",
    "return_prompt_text",
    "return_token_ids",
    "return_token_offsets",
    "return_tokens_as_token_ids",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "store",
    "use_activation",
    "use_beam_search",
    "watermarking",
)
_TEXTS = (
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "suffix",
    "truncation",
    "verbosity",
)
_THINGS = ("audio", "prediction", "reasoning", "repetition_detection", "web_search_options")
_SIDES = one_of(("left", "right"))
_PADDINGS = one_of(("max_length", "do_not_pad"))
_WRITTEN = one_of(("text",))
_STREAM_OPTIONS = dict.fromkeys(("include_usage", "continuous_usage_stats", "include_obfuscation"), flag)
_REFUSED_TEMPLATE_KWARGS = frozenset({"chat_template", "tokenize", "tools", "documents", "conversation"})
_REFUSED_STRUCTURES = frozenset({"regex", "grammar", "structural_tag"})


_ENGINE_FIELDS: dict[str, Check] = {
    "truncate_prompt_tokens": whole(-1),
    "truncation_side": _SIDES,
    "padding": _PADDINGS,
    "routed_experts_prompt_start": whole(0),
    "stream_interval": whole(1),
    "session_id": string(_NAME_CHARS),
    "modalities": list_of(_WRITTEN, 16),
}


def sampling_fields(caps: Caps) -> dict[str, Check]:
    """Checks of the fields that chat and text completions share."""
    fields: dict[str, Check] = dict.fromkeys(REFUSED_FIELDS, refused) | _ENGINE_FIELDS
    token_ids = list_of(whole(0, MAX_INT), 4096)
    fields |= {
        "best_of": only(1),
        "n": whole(1, caps.n),
        "max_tokens": whole(1),
        "max_completion_tokens": whole(1),
        "max_output_tokens": whole(1),
        "min_tokens": whole(0),
        "temperature": number(0.0, 2.0),
        "top_p": number(0.0, 1.0),
        "min_p": number(0.0, 1.0),
        "top_k": whole(-1),
        "presence_penalty": number(-2.0, 2.0),
        "frequency_penalty": number(-2.0, 2.0),
        "repetition_penalty": number(0.0, 100.0, above=True),
        "length_penalty": number(-100.0, 100.0),
        "seed": whole(-(2**63), 2**63 - 1),
        "stop": words(caps.stop, caps.stop_chars),
        "stop_token_ids": token_ids,
        "allowed_token_ids": token_ids,
        "logprob_token_ids": token_ids,
        "bad_words": words(caps.bad_words, caps.stop_chars),
        "top_logprobs": whole(0, caps.top_logprobs),
        "thinking_token_budget": whole(0),
        "logit_bias": _logit_bias(caps.logit_bias),
        "stream": flag,
        "stream_options": members(_STREAM_OPTIONS),
        "user": string(_NAME_CHARS),
        "model": string(_NAME_CHARS, 1),
        "metadata": thing,
        "response_format": _response_format(caps),
        "structured_outputs": _structured_outputs(caps),
        "chat_template_kwargs": Check(_template_kwargs, _TEMPLATE_KWARGS),
        "functions": instead("tools"),
        "function_call": instead("tool_choice"),
        "tools": _tools(caps),
        "tool_choice": Check(_tool_choice, {"anyOf": [_CHOICES.schema, _CHOSEN.schema]}),
    }
    return (
        fields | dict.fromkeys(_FLAGS, flag) | dict.fromkeys(_TEXTS, string()) | dict.fromkeys(_THINGS, thing)
    )


def chat_fields(caps: Caps) -> dict[str, Check]:
    """Checks of what only a chat has, but for its messages."""
    return {"logprobs": flag, "documents": list_of(thing, caps.messages)}


def text_fields(caps: Caps) -> dict[str, Check]:
    """Checks of what a text completion has otherwise."""
    return {
        "logprobs": whole(0, caps.top_logprobs),
        "max_tokens": whole(0),  # with `echo`: what the prompt itself is worth
    }


def response_fields(caps: Caps) -> dict[str, Check]:
    """Checks of what only the responses API has, but for its input."""
    return {
        "background": only(False),
        "conversation": refused,
        "include": list_of(string(), 64),
        "instructions": string(),
        "max_tool_calls": whole(0),
        "previous_input_messages": refused,
        "prompt": refused,
        "text": text_options(caps),
    }


EMBEDDING_FIELDS: dict[str, Check] = {
    "dimensions": whole(1, 1_000_000),
    "embed_dtype": string(32),
    "encoding_format": one_of(("float", "base64")),
    "endianness": string(32),
    "messages": instead("input"),
    "stream": only(False),
}
RERANK_FIELDS: dict[str, Check] = {
    "instruction": string(),
    "max_tokens_per_doc": whole(0),
    "max_tokens_per_query": whole(0),
    "stream": only(False),
    "top_n": whole(0),
}


def check_fields(body: Body, fields: Mapping[str, Check]) -> None:
    """Run every field's check; null stands for absent. Raises ApiError (400)."""
    for name, value in body.items():
        check = fields.get(name)
        if check is not None and value is not None:
            check(value, name)


def schema(value: Any, param: str, caps: Caps) -> None:
    """A JSON schema within the caps of size and depth."""
    record(value, param)
    if depth(value, caps.schema_depth) > caps.schema_depth:
        raise bad_request(f"'{param}' is nested over {caps.schema_depth} levels deep.", param)
    if len(dump(value)) > caps.schema_bytes:
        raise bad_request(f"'{param}' is over {caps.schema_bytes} bytes.", param)
    check_cost(value, param)


def _tools(caps: Caps) -> Check:
    """An array of tools, their parameters within the caps of a schema."""
    parameters = Check(lambda value, param: schema(value, param, caps), {"type": "object"})
    known = {"name": string(), "description": string(), "strict": flag, "parameters": parameters}
    function = members(known)

    def check(value: Any, param: str) -> None:
        tool = record(value, param)
        if tool.get("type") is not None:
            text(tool["type"], f"{param}.type")
        if "function" in tool:
            function(tool["function"], f"{param}.function")
        else:
            function(tool, param)

    shape = function.schema["properties"]
    properties = {**shape, "type": {"type": ["string", "null"]}, "function": function.schema}
    return list_of(Check(check, {"type": "object", "properties": properties}), caps.tools)


_CHOICES = one_of(("none", "auto", "required"))
_CHOSEN = members({"type": string(), "name": string(), "function": members({"name": string()})})


def _tool_choice(value: Any, param: str) -> None:
    (_CHOSEN if isinstance(value, dict) else _CHOICES)(value, param)


def _logit_bias(most: int) -> Check:
    bias = number(-100.0, 100.0)

    def check(value: Any, param: str) -> None:
        if len(record(value, param)) > most:
            raise bad_request(f"'{param}' has {len(value)} entries; at most {most} are allowed.", param)
        for token, amount in value.items():
            if not (token.isascii() and token.isdigit()):
                raise bad_request(f"'{param}': its keys must be token ids.", param)
            bias(amount, f"{param}.{token[:20]}")

    names = {"pattern": "^[0-9]+$"}
    told = {"propertyNames": names, "additionalProperties": bias.schema, "maxProperties": most}
    return Check(check, {"type": "object", **told})


_FORMATS = one_of(("text", "json_object", "json_schema"))
_FREE: Schema = {"type": "object"}  # what a schema holds
_NAMED = members({"name": string(), "description": string(), "strict": flag})


def _one_format(with_schema: Schema) -> Schema:
    """What asks for a form: one of the kinds, of which that by a schema has one."""
    by_schema = {"type": "object", "required": ["type"], **with_schema}
    kinds = {"type": {"type": "string", "enum": ["text", "json_object"]}}
    return {"anyOf": [by_schema, {"type": "object", "required": ["type"], "properties": kinds}]}


def _response_format(caps: Caps) -> Check:
    def check(value: Any, param: str) -> None:
        kind = record(value, param).get("type")
        _FORMATS(kind, f"{param}.type")
        if kind == "json_schema":
            holder = record(value.get("json_schema"), f"{param}.json_schema")
            _NAMED(holder, f"{param}.json_schema")
            schema(holder.get("schema", holder.get("json_schema")), f"{param}.json_schema.schema", caps)

    named = _NAMED.schema["properties"]
    holder = {"type": "object", "required": ["schema"], "properties": {**named, "schema": _FREE}}
    properties = {"type": {"const": "json_schema"}, "json_schema": holder}
    return Check(check, _one_format({"required": ["type", "json_schema"], "properties": properties}))


def text_options(caps: Caps) -> Check:
    """`text` of the responses API: its format within the caps of a schema."""

    def check(value: Any, param: str) -> None:
        form = record(value, param).get("format")
        if form is None:
            return
        kind = record(form, f"{param}.format").get("type")
        _FORMATS(kind, f"{param}.format.type")
        if kind == "json_schema":
            _NAMED(form, f"{param}.format")
            schema(form.get("schema"), f"{param}.format.schema", caps)

    properties = {**_NAMED.schema["properties"], "type": {"const": "json_schema"}, "schema": _FREE}
    form = _one_format({"required": ["type", "schema"], "properties": properties})
    return Check(check, {"type": "object", "properties": {"format": checks.nullable(form)}})


def _structured_outputs(caps: Caps) -> Check:
    choices = list_of(string(caps.stop_chars), MOST_VALUES, 1)

    def check(value: Any, param: str) -> None:
        for name, part in record(value, param).items():
            if part is None:
                continue
            if name in _REFUSED_STRUCTURES:
                refused(part, f"{param}.{name}")
            if name == "json" and not isinstance(part, str):
                schema(part, f"{param}.json", caps)
            elif name == "json":
                schema(_parsed(text(part, f"{param}.json", caps.schema_bytes), f"{param}.json"), param, caps)
            elif name == "choice":
                choices(part, f"{param}.choice")

    told: dict[str, Schema] = {name: refused.schema for name in sorted(_REFUSED_STRUCTURES)}
    told |= {"json": {"type": ["object", "null"]}, "choice": checks.nullable(choices.schema)}
    return Check(check, {"type": "object", "properties": told})


def _parsed(written: str, param: str) -> Any:
    """A schema that is sent as a text. Raises ApiError (400)."""
    try:
        return parse(written.encode("utf-8", "surrogatepass"))
    except ApiError as error:
        raise bad_request(f"'{param}': {error.message}", param) from None


_TEMPLATE_KWARGS: Schema = {
    "type": "object",
    "propertyNames": {"not": {"enum": sorted(_REFUSED_TEMPLATE_KWARGS)}},
    "additionalProperties": {"type": ["boolean", "number", "string", "null"], "maxLength": _NAME_CHARS},
}


def _template_kwargs(value: Any, param: str) -> None:
    for name, part in record(value, param).items():
        where = f"{param}.{name[:64]}"
        if name in _REFUSED_TEMPLATE_KWARGS:
            refused(part, where)
        if isinstance(part, dict | list) or (isinstance(part, str) and len(part) > _NAME_CHARS):
            raise bad_request(f"'{where}' must be a flag, a number or a short string.", where)
