"""Ids of decisions: a part that says which request, and a part for each time that it was let in.

HAProxy names every request (`REQUEST_HEADER`) and repeats one, under the same name, whose ingress replica
died before it answered. What the dead one had begun is then no second request.
"""

import re
import secrets
from typing import Final

REQUEST_HEADER: Final = "x-fastserve-request"  # set by HAProxy in place of what a client may have sent

_REQUEST_DIGITS: Final = 24
_ADMISSION_BYTES: Final = 4
_GIVEN: Final = re.compile(rb"[0-9a-f-]{32,36}")
_MADE: Final = re.compile(r"d-[0-9a-f]{32}")
_LAST: Final = "g"  # behind every hexadecimal digit


def request_name(given: bytes | None) -> str:
    """The name of a request: from HAProxy's, or a new one where there is none."""
    if given is None or _GIVEN.fullmatch(given) is None:
        return secrets.token_hex(_REQUEST_DIGITS // 2)
    return given.decode().replace("-", "")[:_REQUEST_DIGITS]


def decision_id(request: str) -> str:
    """A new id for a request of this name."""
    return f"d-{request}{secrets.token_hex(_ADMISSION_BYTES)}"


def of_request(request: str) -> tuple[str, str]:
    """Between what all ids of a request stand in the order of their text."""
    return f"d-{request}", f"d-{request}{_LAST}"


def request_of(identifier: str) -> str | None:
    """The name of the request that an id belongs to; None for an id that was not made here."""
    return identifier[2 : 2 + _REQUEST_DIGITS] if _MADE.fullmatch(identifier) else None
