"""The paths of the API that lead to a model: what each is called, what it reads, whether it writes text."""

from dataclasses import dataclass
from typing import Final, Literal

Capability = Literal["chat", "tools", "vision", "json", "embeddings", "rerank"]
"""What a model can do, as its `capabilities` say (`deployments/model/settings.py`)."""

BACKLOG_HEADER: Final = "x-fastserve-backlog"  # tells a replica how many requests wait for one like it


@dataclass(frozen=True, slots=True)
class Operation:
    """One path."""

    path: str
    name: str  # of the operation in OpenTelemetry's semantic conventions for generative AI
    required: tuple[str, ...]  # fields of the body, but for `model`
    prompt_field: str
    answer: tuple[str, ...]  # fields that a plain answer always has
    needs: Capability = "chat"  # of the model
    generates: bool = True  # tokens, so that it can be streamed
    has_stream_options: bool = False  # usage of a stream comes only when it is asked for
    is_translated: bool = False  # into a chat completion, so that no engine is asked for this path


_COMPLETION: Final = ("id", "object", "created", "choices")
_MESSAGE: Final = ("id", "type", "role", "content")
OPERATIONS: Final = {
    operation.path: operation
    for operation in (
        Operation(
            "/v1/chat/completions", "chat", ("messages",), "messages", _COMPLETION, has_stream_options=True
        ),
        Operation(
            "/v1/completions", "text_completion", ("prompt",), "prompt", _COMPLETION, has_stream_options=True
        ),
        Operation("/v1/responses", "responses", ("input",), "input", ("id", "object", "output")),
        Operation(
            "/v1/messages", "chat", ("messages", "max_tokens"), "messages", _MESSAGE, is_translated=True
        ),
        Operation(
            "/v1/embeddings",
            "embeddings",
            ("input",),
            "input",
            ("object", "data"),
            "embeddings",
            generates=False,
        ),
        Operation(
            "/v1/rerank",
            "rerank",
            ("query", "documents"),
            "documents",
            ("results",),
            "rerank",
            generates=False,
        ),
        Operation("/v1/score", "rerank", (), "documents", ("data",), "rerank", generates=False),
    )
}
WORDLESS: Final = frozenset(one.needs for one in OPERATIONS.values() if not one.generates)
"""Capabilities whose answers are numbers made of the texts."""
ENGINE_PATHS: Final = frozenset(path for path, one in OPERATIONS.items() if not one.is_translated)
