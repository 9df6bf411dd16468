"""A tokenizer's file with the chat templates of its model, as the table holds both in one artifact."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_SEAM: Final = b"\0"  # JSON in UTF-8 has none


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """The two parts; `templates` by name, "default" and perhaps "tool_use"."""

    tokenizer: bytes
    templates: Mapping[str, str] = field(default_factory=dict)
    special_tokens: Mapping[str, str] = field(default_factory=dict)


def pack(tokenizer: bytes, templates: Mapping[str, str], special_tokens: Mapping[str, str]) -> bytes:
    """Both as one file; the tokenizer's own where there is no template."""
    if not templates:
        return tokenizer
    parts = {"templates": templates, "special_tokens": special_tokens}
    return tokenizer + _SEAM + json.dumps(parts, sort_keys=True).encode()


def unpack(data: bytes) -> TokenizerFile:
    """The parts of one file. Raises ValueError, TypeError where the second is not what `pack` makes."""
    tokenizer, _, parts = data.partition(_SEAM)
    return TokenizerFile(tokenizer, **json.loads(parts)) if parts else TokenizerFile(tokenizer)
