"""Which fields a body may have, and the bounds of each; fields not named here pass through unread."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from serve_app.body import checks
from serve_app.body.checks import (
    MAX_INT,
    Check,
    array,
    flag,
    instead,
    number,
    one_of,
    record,
    refused,
    text,
    whole,
    words,
)
from serve_app.body.strict_json import Body, depth, dump
from serve_app.config import Caps
from serve_app.http.errors import bad_request

_URL_FIELDS = {"image_url": "url", "video_url": "url", "audio_url": "url", "input_image": None}
_INLINE = frozenset({"input_audio"})


def check_part(part: dict[str, Any], kind: str, param: str, caps: Caps) -> None:
    """Raises ApiError (400) for a part that is no known medium or that names a host not allowed."""
    if kind in _INLINE:
        checks.record(part.get(kind), f"{param}.{kind}")
        return
    if kind not in _URL_FIELDS:
        raise bad_request(f"Parts of type '{kind[:64]}' are not accepted.", f"{param}.type")
    holder = part.get("image_url" if kind == "input_image" else kind)
    url = holder.get("url") if isinstance(holder, dict) else holder
    _check_url(checks.text(url, f"{param}.{kind}"), f"{param}.{kind}", caps)


def _check_url(url: str, param: str, caps: Caps) -> None:
    if url.startswith("data:"):
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise bad_request(f"'{param}' is not a URL.", param) from None
    if parts.scheme not in ("http", "https") or host not in caps.media_domains:
        raise bad_request(f"'{param}': only data: URLs and hosts in 'caps.media_domains' are allowed.", param)


_NAME_CHARS = 256
_REFUSED_FIELDS = (
    "best_of",
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
_REFUSED_TEMPLATE_KWARGS = frozenset({"chat_template", "tokenize", "tools", "documents", "conversation"})
_REFUSED_STRUCTURES = frozenset({"regex", "grammar", "structural_tag"})


def sampling_fields(caps: Caps) -> dict[str, Check]:
    """Checks of the fields that chat and text completions share."""
    fields: dict[str, Check] = dict.fromkeys(_REFUSED_FIELDS, refused)
    token_ids = _integers(4096)
    fields |= {
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
        "truncate_prompt_tokens": whole(-1),
        "thinking_token_budget": whole(0),
        "logit_bias": _logit_bias(caps.logit_bias),
        "stream": flag,
        "stream_options": _stream_options,
        "user": _name,
        "model": _name,
        "metadata": _object,
        "response_format": _response_format(caps),
        "structured_outputs": _structured_outputs(caps),
        "chat_template_kwargs": _template_kwargs,
        "functions": instead("tools"),
        "function_call": instead("tool_choice"),
    }
    flags = ("echo", "ignore_eos", "use_beam_search", "skip_special_tokens", "parallel_tool_calls", "store")
    return fields | dict.fromkeys(flags, flag)


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


def tools(value: Any, param: str, caps: Caps) -> None:
    """An array of tools, their parameters within the caps of a schema."""
    for index, tool in enumerate(array(value, param, caps.tools)):
        where = f"{param}[{index}]"
        function = record(tool, where).get("function", tool)
        parameters = record(function, f"{where}.function").get("parameters")
        if parameters is not None:
            schema(parameters, f"{where}.function.parameters", caps)


def _object(value: Any, param: str) -> None:
    record(value, param)


def _name(value: Any, param: str) -> None:
    text(value, param, _NAME_CHARS)


def _integers(most: int) -> Check:
    entry = whole(0, MAX_INT)

    def check(value: Any, param: str) -> None:
        for index, item in enumerate(array(value, param, most)):
            entry(item, f"{param}[{index}]")

    return check


def _logit_bias(most: int) -> Check:
    bias = number(-100.0, 100.0)

    def check(value: Any, param: str) -> None:
        if len(record(value, param)) > most:
            raise bad_request(f"'{param}' has {len(value)} entries; at most {most} are allowed.", param)
        for token, amount in value.items():
            if not (token.isascii() and token.isdigit()):
                raise bad_request(f"'{param}': its keys must be token ids.", param)
            bias(amount, f"{param}.{token[:20]}")

    return check


def _stream_options(value: Any, param: str) -> None:
    for name, option in record(value, param).items():
        if name in ("include_usage", "continuous_usage_stats", "include_obfuscation") and option is not None:
            flag(option, f"{param}.{name}")


_FORMATS = one_of(("text", "json_object", "json_schema"))


def _response_format(caps: Caps) -> Check:
    def check(value: Any, param: str) -> None:
        kind = record(value, param).get("type")
        _FORMATS(kind, f"{param}.type")
        if kind == "json_schema":
            holder = record(value.get("json_schema"), f"{param}.json_schema")
            schema(holder.get("schema", holder.get("json_schema")), f"{param}.json_schema.schema", caps)

    return check


def text_options(caps: Caps) -> Check:
    """`text` of the responses API: its format within the caps of a schema."""

    def check(value: Any, param: str) -> None:
        form = record(value, param).get("format")
        if form is None:
            return
        kind = record(form, f"{param}.format").get("type")
        _FORMATS(kind, f"{param}.format.type")
        if kind == "json_schema":
            schema(form.get("schema"), f"{param}.format.schema", caps)

    return check


def _structured_outputs(caps: Caps) -> Check:
    def check(value: Any, param: str) -> None:
        for name, part in record(value, param).items():
            if part is None:
                continue
            if name in _REFUSED_STRUCTURES:
                refused(part, f"{param}.{name}")
            if name == "json" and not isinstance(part, str):
                schema(part, f"{param}.json", caps)
            elif name == "json":
                text(part, f"{param}.json", caps.schema_bytes)

    return check


def _template_kwargs(value: Any, param: str) -> None:
    for name, part in record(value, param).items():
        where = f"{param}.{name[:64]}"
        if name in _REFUSED_TEMPLATE_KWARGS:
            refused(part, where)
        if isinstance(part, dict | list) or (isinstance(part, str) and len(part) > _NAME_CHARS):
            raise bad_request(f"'{where}' must be a flag, a number or a short string.", where)
