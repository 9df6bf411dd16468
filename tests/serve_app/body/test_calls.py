"""Checked calls: whatever JSON comes, a Call or a 400 naming a field; what dispatch reads of a good one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.model.engines.simulated.app import AT_ONCE, SHAPES
from deployments.records.operation import ENGINE_PATHS, OPERATIONS
from serve_app.body.calls import Call, Calls
from serve_app.config import Caps
from serve_app.http.errors import ApiError

CALLS = Calls(Caps())
BUILDERS = [CALLS.chat, CALLS.completion, CALLS.response, CALLS.embedding]
NAMES = [
    *CALLS._chat,
    "messages",
    "prompt",
    "input",
    "instructions",
    "text",
    "tools",
    "dimensions",
    "encoding_format",
]

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2)
    | st.sampled_from(["", "a", "user", "text"])
)
keys = st.sampled_from(
    ["role", "content", "type", "text", "format", "schema", "json_schema", "function", "url"]
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)


@pytest.mark.parametrize("build", BUILDERS)
@given(body=st.dictionaries(st.sampled_from(NAMES), values, max_size=6))
def test_any_body_is_a_call_or_a_400(build, body):
    base = {"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
    try:
        made = build({**base, **body})
    except ApiError as error:
        made = error
    assert made.status == 400 if isinstance(made, ApiError) else isinstance(made, Call)


def chat(content="Hi", **fields):
    return CALLS.chat({"model": "auto", "messages": [{"role": "user", "content": content}], **fields})


def test_text_turns_and_limits_are_read():
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}},
    ]
    made = CALLS.chat(
        {
            "model": "auto",
            "stream": True,
            "max_completion_tokens": 9,
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": parts}],
        }
    )
    assert (made.prompt.text, made.prompt.turns, made.stream) == ("s\na", 2, True)
    assert (made.prompt.max_tokens, made.max_tokens_field) == (9, "max_completion_tokens")
    assert made.prompt.needs == {"chat", "vision"}


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, {"chat"}),
        ({"tools": []}, {"chat"}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"chat", "tools"}),
        ({"response_format": {"type": "text"}}, {"chat"}),
        ({"response_format": {"type": "json_object"}}, {"chat", "json"}),
        ({"structured_outputs": {"choice": ["a", "b"]}}, {"chat", "json"}),
    ],
)
def test_what_a_body_needs_of_a_model(fields, needs):
    assert chat(**fields).prompt.needs == needs


def test_token_ids_are_counted_exactly():
    assert CALLS.completion({"model": "m", "prompt": [1, 2, 3]}).prompt.tokens == 3
    assert CALLS.embedding({"model": "m", "input": [[1], [2, 3]]}).prompt.tokens == 3


def test_hosts_that_the_operator_named_may_be_fetched_from():
    image = [{"type": "image_url", "image_url": {"url": "https://images.example/x.png"}}]
    body = {"model": "auto", "messages": [{"role": "user", "content": image}]}
    assert Calls(Caps(media_domains=("images.example",))).chat(body).prompt.needs == {"chat", "vision"}
    for url in (
        "https://images.example.evil/x",
        "https://images.example@127.0.0.1/x",
        "ftp://images.example/x",
    ):
        image[0]["image_url"]["url"] = url
        with pytest.raises(ApiError):
            Calls(Caps(media_domains=("images.example",))).chat(body)


@pytest.mark.parametrize("path", sorted(OPERATIONS))
def test_every_path_of_the_api_is_read_here_and_answered_by_the_simulated_engine(path: str) -> None:
    assert CALLS.described(path)["properties"]
    assert path not in ENGINE_PATHS or path in SHAPES or path in AT_ONCE
