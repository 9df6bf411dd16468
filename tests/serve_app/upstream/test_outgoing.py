"""What a model gets: the caller's own bytes where nothing has to change, else exactly the changes."""

import json

import pytest

from deployments.dispatch.request import Prompt
from deployments.records.snapshot import ModelCard
from serve_app.body.calls import Call
from serve_app.upstream.outgoing import has_default_limit, outgoing

RAW = b'{"model": "m",  "messages": []}'


def card(**changes):
    return ModelCard(**{"model": "m", "engine": "simulated", "source": "", "context_tokens": 100, **changes})


def call(raw=RAW, max_tokens_field="max_tokens", **prompt):
    body = json.loads(raw)
    path = "/v1/chat/completions"
    return Call(path, body, body["model"], Prompt(**prompt), max_tokens_field=max_tokens_field)


def sent(made, card, defaults=None):
    return json.loads(outgoing(made, RAW, card, defaults or {}, "salt"))


def test_nothing_to_change_sends_the_caller_s_bytes():
    assert outgoing(call(), RAW, card(), {}, "salt") is RAW


def test_auto_becomes_the_model_s_name_for_each_try():
    made = call(b'{"model": "auto", "messages": []}')
    assert sent(made, card())["model"] == "m"
    assert sent(made, card(model="other"))["model"] == "other"
    assert made.body["model"] == "auto"


def test_only_vllm_gets_the_key_s_cache_salt():
    assert sent(call(), card(engine="vllm"))["cache_salt"] == "salt"
    assert "cache_salt" not in sent(call(), card(engine="openai"))


def test_defaults_fill_what_is_left_out_profile_before_card():
    made = call(b'{"model": "m", "messages": [], "temperature": 0}')
    defaults = {"temperature": 0.5, "top_p": 0.9}
    body = sent(made, card(generation_defaults={"top_p": 0.1, "seed": 1}), defaults)
    assert (body["temperature"], body["top_p"], body["seed"]) == (0, 0.9, 1)


def test_a_default_limit_can_be_left_out():
    raw, defaults = b'{"model": "m"}', {"max_tokens": 50, "top_p": 0.5}
    body = json.loads(outgoing(call(raw), raw, card(), defaults, "salt", with_limit=False))
    assert body == {"model": "m", "top_p": 0.5}
    assert has_default_limit(call(raw), card(), defaults)
    assert has_default_limit(call(raw), card(generation_defaults=defaults), {})
    assert not has_default_limit(call(raw, max_tokens=5), card(), defaults)


def test_a_caller_s_length_limit_keeps_a_default_one_away():
    made = call(
        b'{"model": "m", "max_completion_tokens": 5}', max_tokens=5, max_tokens_field="max_completion_tokens"
    )
    assert "max_tokens" not in sent(made, card(), {"max_tokens": 50})


@pytest.mark.parametrize(("asked", "kept"), [(99, 99), (100, None), (10_000, None)])
def test_a_limit_over_the_context_leaves_it_to_the_engine(asked, kept):
    made = call(b'{"model": "auto", "max_tokens": %d}' % asked, max_tokens=asked)
    assert sent(made, card())["max_tokens"] == kept
