"""Every field of vLLM's own protocol is known here: accepted within bounds, or refused by its name.

The fields are read from vLLM's source, which costs no import of it.
"""

import ast
import copy
from importlib.util import find_spec
from pathlib import Path

import pytest

from serve_app.body.calls import Calls
from serve_app.body.strict_json import dump
from serve_app.config import Caps
from serve_app.http.errors import ApiError

CALLS = Calls(Caps())
HELLO = [{"role": "user", "content": "Hello"}]
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
LEAST = {
    CHAT: {"messages": HELLO},
    TEXT: {"prompt": "Hello"},
    RESPONSES: {"input": "Hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 4},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/rerank": {"query": "Hello", "documents": ["a"]},
    "/v1/score": {"text_1": "a", "text_2": "b"},
}
CLASSES = {
    CHAT: ["openai/chat_completion:ChatCompletionRequest"],
    TEXT: ["openai/completion:CompletionRequest"],
    RESPONSES: ["openai/responses:ResponsesRequest"],
    "/v1/messages": ["anthropic:AnthropicMessagesRequest"],
    "/v1/embeddings": ["pooling/embed:EmbeddingCompletionRequest"],
    "/v1/rerank": ["pooling/scoring:RerankRequest"],
    "/v1/score": [
        f"pooling/scoring:Score{kind}Request" for kind in ("Text", "Data", "QueriesDocuments", "QueriesItems")
    ],
}
OPENAI = {  # fields of OpenAI's that vLLM's classes do not name, with a value that asks for nothing special
    CHAT: {
        "audio": None,
        "logit_bias": {},
        "metadata": {},
        "modalities": ["text"],
        "prediction": None,
        "prompt_cache_key": "a",
        "prompt_cache_retention": "24h",
        "safety_identifier": "a",
        "service_tier": "auto",
        "store": False,
        "verbosity": "low",
        "web_search_options": None,
    },
    TEXT: {"best_of": 1, "logit_bias": {}, "suffix": None},
    RESPONSES: {"conversation": None, "include": [], "prompt": None, "safety_identifier": "a"},
    "/v1/embeddings": {"dimensions": None, "encoding_format": None, "user": "a"},
}


def folder():
    found = find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed")
    return Path(found.origin).parent / "entrypoints"


def fields_of(named):
    """The fields of a class and of those that it stands on, as far as they are in vLLM's protocols."""
    place, _, name = named.partition(":")
    classes = {}
    for file in (folder() / place / "protocol.py", folder() / "pooling" / "base" / "protocol.py"):
        nodes = ast.parse(file.read_text()).body
        classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)} | classes
    found, left = set(), [name]
    while left:
        node = classes.get(left.pop())
        if node is None:
            continue
        left += [ast.unparse(base) for base in node.bases]
        found |= {
            line.target.id
            for line in node.body
            if isinstance(line, ast.AnnAssign) and not line.target.id.startswith("_")
        }
    return found


@pytest.mark.parametrize("path", CLASSES)
def test_every_field_of_vllm_is_checked_or_refused_by_its_name(path):
    known = CALLS._known[path]
    ours = {"query"} | set(known.fields) | set(known.prompt)
    fields = set().union(*map(fields_of, CLASSES[path]))
    assert len(fields) > 10
    assert fields - ours == set()


def built(path, **fields):
    return CALLS.build(path, copy.deepcopy({"model": "m", **LEAST[path], **fields}))


@pytest.mark.parametrize("path", CLASSES)
def test_null_stands_for_absent_in_every_field_and_no_engine_sees_it(path):
    known = CALLS._known[path]
    for name in (set(known.fields) | set(OPENAI.get(path, ()))) - {"model", *LEAST[path]}:
        call = built(path, **{name: None})
        assert None not in call.body.values(), name
    plain = built(path).body
    names = set(known.fields) - {"model", *LEAST[path]}
    assert dump(built(path, **dict.fromkeys(names)).body) == dump(plain)


@pytest.mark.parametrize("path", OPENAI)
def test_fields_of_openai_alone_are_taken(path):
    built(path, **OPENAI[path])


EDGES = [
    (CHAT, {"top_p": 0}),
    (CHAT, {"temperature": 0}),
    (CHAT, {"temperature": 2}),
    (CHAT, {"seed": -1}),
    (CHAT, {"seed": -(2**63)}),
    (CHAT, {"logit_bias": {}}),
    (CHAT, {"logit_bias": {"0": -100, "50256": 100}}),
    (CHAT, {"stop": []}),
    (CHAT, {"stop": ""}),
    (CHAT, {"tools": []}),
    (CHAT, {"tools": [], "tool_choice": "auto"}),
    (CHAT, {"tool_choice": "none"}),
    (CHAT, {"top_logprobs": 0}),
    (CHAT, {"logprobs": False, "top_logprobs": None}),
    (CHAT, {"presence_penalty": -2, "frequency_penalty": 2}),
    (CHAT, {"stream_options": {}}),
    (CHAT, {"stream": False, "stream_options": {"include_usage": True}}),
    (CHAT, {"stream": True, "stream_options": {"include_usage": None}}),
    (CHAT, {"response_format": {"type": "text"}}),
    (CHAT, {"metadata": {}}),
    (CHAT, {"user": ""}),
    (CHAT, {"top_k": 0}),
    (CHAT, {"top_k": -1}),
    (CHAT, {"min_p": 0}),
    (CHAT, {"max_tokens": 1}),
    (CHAT, {"max_tokens": 8, "max_completion_tokens": 8}),
    (CHAT, {"bad_words": []}),
    (CHAT, {"stop_token_ids": []}),
    (CHAT, {"documents": []}),
    (TEXT, {"echo": True, "max_tokens": 0, "logprobs": 1}),
    (TEXT, {"suffix": ""}),
    (TEXT, {"logprobs": 0}),
    (TEXT, {"best_of": 1}),
    (TEXT, {"prompt": [1, 2, 3]}),
    (TEXT, {"prompt": [[1], [2, 3]]}),
    (TEXT, {"prompt": ["a", ""]}),
    (RESPONSES, {"tools": []}),
    (RESPONSES, {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}),
    (RESPONSES, {"include": []}),
    (RESPONSES, {"truncation": "auto", "service_tier": "default", "store": False}),
    (RESPONSES, {"reasoning": {}, "text": {}}),
    (RESPONSES, {"text": {"format": {"type": "text"}}}),
    (RESPONSES, {"background": False}),
    ("/v1/embeddings", {"input": [1, 2]}),
    ("/v1/embeddings", {"input": ["a"] * 2_048}),
    ("/v1/embeddings", {"encoding_format": "base64", "dimensions": None, "user": None}),
    ("/v1/rerank", {"top_n": 0, "max_tokens_per_doc": 0}),
]


@pytest.mark.parametrize(("path", "fields"), EDGES, ids=lambda value: str(value)[:50])
def test_values_at_their_edges_are_taken(path, fields):
    built(path, **fields)


@pytest.mark.vllm
def test_vllm_takes_what_is_made_of_values_at_their_edges_too():
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.pooling.embed.protocol import EmbeddingCompletionRequest
    from vllm.entrypoints.pooling.scoring.protocol import RerankRequest

    classes = {
        CHAT: ChatCompletionRequest,
        TEXT: CompletionRequest,
        RESPONSES: ResponsesRequest,
        "/v1/embeddings": EmbeddingCompletionRequest,
        "/v1/rerank": RerankRequest,
    }
    for path, fields in EDGES:
        classes[path].model_validate(built(path, **fields).body)
    for path, made in classes.items():
        names = set(CALLS._known[path].fields) - {"model", *LEAST[path]}
        made.model_validate(built(path, **dict.fromkeys(names)).body)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"modalities": ["text", "audio"]}, "modalities[1]"),
        (CHAT, {"truncation_side": "middle"}, "truncation_side"),
        (CHAT, {"stream_interval": 0}, "stream_interval"),
        (CHAT, {"documents": ["a"]}, "documents[0]"),
        (CHAT, {"max_tokens": 0}, "max_tokens"),
        (TEXT, {"max_tokens": -1}, "max_tokens"),
        (RESPONSES, {"conversation": "conv_1"}, "conversation"),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "prompt"),
        ("/v1/messages", {"cache_salt": "a"}, "cache_salt"),
        ("/v1/rerank", {"instruction": 5}, "instruction"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_no_engine_here_does_is_refused_by_its_name(path, fields, param):
    with pytest.raises(ApiError) as caught:
        built(path, **fields)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("prompt", ["word " * 5_000, ["word " * 5_000, "a"], [7] * 5_000, [[7] * 5_000, [1]]])
def test_a_prompt_that_the_engine_is_to_cut_is_never_too_long(prompt):
    assert built(TEXT, prompt=prompt).prompt.least_tokens > 0
    cut = built(TEXT, prompt=prompt, truncate_prompt_tokens=-1).prompt
    assert (cut.least_tokens, cut.most_rendered_tokens, cut.likely_tokens) == (0, 16, 0)
    assert cut.estimated_tokens > 1_000


def test_documents_for_the_chat_template_count_as_prompt():
    plain, more = built(CHAT), built(CHAT, documents=[{"title": "a", "text": "x" * 1_000}])
    assert more.prompt.extra_chars - plain.prompt.extra_chars > 1_000
