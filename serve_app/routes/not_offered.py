"""Paths of other APIs that clients try: what is not offered, and what to use in its place."""

import re
from typing import Final

from serve_app.http.errors import ApiError

_CHAT: Final = "send POST /v1/chat/completions with the model's id in 'model'"
_INSTEAD: Final = (
    (r"/openai/(?!v1/).*", "Azure's paths", f"{_CHAT}, and the base URL '.../v1'"),
    (r"/v1/engines/.*", "Engines", _CHAT),
    (r"/v1/complete", "Anthropic's text completions", "send POST /v1/messages"),
    (r"/v1/messages/batches.*|/v1/batches.*", "Batches", "send each request by itself, many at once"),
    (r"/v1/(files|uploads|vector_stores|containers)(/.*)?", "Stored files", "send the text in the request"),
    (
        r"/v1/responses/(?!responses/?$).+|/v1/conversations.*",
        "Stored responses",
        "send all items in 'input'",
    ),
    (r"/v1/chat/completions/(?!.*completions/?$).+", "Stored completions", "keep the answers yourself"),
    (r"/v1/(assistants|threads)(/.*)?", "Assistants", _CHAT),
    (r"/v1/(fine_tuning|fine-tunes|evals)(/.*)?", "Tuning and evaluation jobs", "use `fastserve evaluate`"),
    (r"/v1/audio/.*|/v1/realtime.*", "Speech", "send text"),
    (r"/v1/(images|videos)(/.*)?", "Making pictures", "send pictures to models that can see"),
    (r"/v1/moderations", "Moderation", "ask a model of the pool"),
    (r"/v1/organization/.*|/v1/dashboard/.*", "Administration", "use GET /v1/usage and `fastserve keys`"),
    (r"/api/(chat|generate|tags|embed|embeddings|show|version)", "Ollama's paths", _CHAT),
)
_KNOWN: Final = tuple((re.compile(path), what, instead) for path, what, instead in _INSTEAD)


def not_offered(path: str) -> ApiError | None:
    """404 that says what to use instead; None for a path that is nobody's."""
    for pattern, what, instead in _KNOWN:
        if pattern.fullmatch(path):
            verb = "is" if not what.endswith("s") else "are"
            return ApiError(404, f"{what} {verb} not offered; {instead}.", code="not_offered")
    return None
