"""All that a chat template turns into prompt counts: tools, calls, and what it writes of its own."""

import json
from dataclasses import replace

import jinja2
import pytest

from deployments.dispatch.chat_template import ChatTemplate
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.masks import Reason
from deployments.dispatch.request import Prompt
from deployments.dispatch.settings import DispatchSettings
from deployments.dispatch.tokenizers import Tokenizers
from deployments.model.files import read_tokenizer
from deployments.records.snapshot import tokenizer_artifact
from deployments.records.tokenizer_file import pack, unpack
from deployments.shipped import shipped
from tests.deployments.dispatch.asking import ask
from tests.deployments.dispatch.byte_tokenizer import of_bytes
from tests.deployments.pools import View, model, snapshot

CHATML = (
    "{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for message in messages %}{{ bos_token }}{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ call.function.arguments.city }}{% endfor %}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<start>assistant\n{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "weather", "description": "Grüße"}}
HELLO = {"role": "user", "content": "Hello"}


def made(template: str = CHATML) -> ChatTemplate:
    return ChatTemplate({"default": template}, {"bos_token": "<start>"})


def test_tools_calls_and_marks_are_rendered() -> None:
    called = {"function": {"name": "weather", "arguments": '{"city": "Wien"}'}}
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]
    answer = {"role": "assistant", "content": None, "tool_calls": [called]}
    text = made().rendered({"messages": [HELLO, answer, {"role": "tool", "content": parts}], "tools": [TOOL]})
    assert text == (
        f"<tools>{json.dumps(TOOL, ensure_ascii=False)}</tools><start>user\nHello<end>\n"
        "<start>assistant\nWien<end>\n<start>tool\nOne\nTwo<end>\n<start>assistant\n"
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[7].content }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_a_template_that_refuses_or_reaches_too_far_renders_nothing(template: str) -> None:
    assert made(template).rendered({"messages": [HELLO]}) is None


def test_a_template_with_tools_has_its_own_name_and_marks_of_training_say_nothing() -> None:
    template = ChatTemplate({"default": "plain", "tool_use": "{% generation %}tools{% endgeneration %}"}, {})
    assert template.rendered({"messages": [HELLO]}) == "plain"
    assert template.rendered({"messages": [HELLO], "tools": [TOOL]}) == "tools"
    with pytest.raises(jinja2.TemplateError):
        made("{% if %}")


def test_a_tokenizer_s_file_holds_the_template_and_one_without_is_as_before() -> None:
    assert pack(b"{}", {}, {"eos_token": "x"}) == b"{}"
    both = unpack(pack(b"{}", {"default": CHATML}, {"bos_token": "<start>"}))
    assert (both.tokenizer, both.templates, both.special_tokens) == (
        b"{}",
        {"default": CHATML},
        {"bos_token": "<start>"},
    )


@pytest.mark.parametrize("room", [0, -1])
async def test_tools_count_to_the_token(room: int) -> None:
    body = {"messages": [HELLO], "tools": [TOOL]}
    size = len((made().rendered(body) or "").encode())
    tokenizers = Tokenizers()
    assert tokenizers.install("t", pack(of_bytes(), {"default": CHATML}, {"bos_token": "<start>"}))
    row = model("counted", context_tokens=size + 1 + room)
    rows = (replace(row, card=replace(row.card, tokenizer="t")), model("other"))
    pool = snapshot(*rows, artifacts={tokenizer_artifact("t"): "t"})
    prompt = Prompt("Hello", extra_chars=len(json.dumps(TOOL)))
    counted = await tokenizers.counted(pool, "auto", prompt, body)
    assert counted.counts == {"t": size}
    reasons = Dispatcher(View(pool), DispatchSettings()).explain(replace(ask(), prompt=counted)).reasons
    assert reasons == ({} if room == 0 else {"counted": Reason.CONTEXT.value})


async def test_what_a_picture_becomes_is_not_guessed() -> None:
    tokenizers = Tokenizers()
    tokenizers.install("t", pack(of_bytes(), {"default": "{{ 'x' * 1000 }}"}, {}))
    row = model("seeing", context_tokens=100)
    pool = snapshot(replace(row, card=replace(row.card, tokenizer="t")))
    prompt = Prompt("What is this?", needs=frozenset({"vision"}))
    assert (await tokenizers.counted(pool, "auto", prompt, {"messages": [HELLO]})).counts is None


async def test_a_template_that_cannot_be_read_leaves_the_tokenizer() -> None:
    tokenizers = Tokenizers()
    assert tokenizers.install("t", pack(of_bytes(), {"default": "{% if %}"}, {}))
    row = model("counted", context_tokens=64)
    pool = snapshot(replace(row, card=replace(row.card, tokenizer="t")))
    counted = await tokenizers.counted(pool, "auto", Prompt("x" * 100), {"messages": [HELLO]})
    assert counted.counts == {"t": 98}


def test_the_stored_model_s_chats_are_rendered_as_transformers_renders_them() -> None:
    transformers = pytest.importorskip("transformers")
    folder = shipped("models") / "tiny"
    data = read_tokenizer(str(folder), folder)
    assert data is not None
    file = unpack(data)
    template = ChatTemplate(file.templates, file.special_tokens)
    messages = [
        {"role": "system", "content": "Be kind."},
        HELLO,
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Grüße, 你好"},
    ]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert template.rendered({"messages": messages}) == expected
