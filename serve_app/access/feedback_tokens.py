"""One-shot tokens that let a caller vote on a decision."""

import base64
import hmac
import math
import re
import time
from collections.abc import Callable
from typing import Final

TOKEN_LIFETIME_S: Final = 24 * 3600.0


class FeedbackTokenError(ValueError):
    """A token that was forged, is for another decision, or has expired."""


class FeedbackTokens:
    """Issues and checks tokens: HMAC-SHA256 over decision id, key id and expiry, good for 24 hours.

    A token has one effect: its vote is kept under (decision, 'browser'), where the table takes one and
    answers a repeat with "same" and a change with "conflict", across restarts.
    """

    def __init__(
        self,
        secret: str,
        lifetime_s: float = TOKEN_LIFETIME_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not secret:
            raise ValueError("secret: '', must not be empty.")
        self._key = hmac.digest(secret.encode(), b"fastserve feedback token v1", "sha256")
        self._lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, decision_id: str, key_id: str) -> str:
        """`<expiry>.<key id>.<mac>`, all URL-safe; for the x-fastserve-feedback-token header."""
        expiry = math.ceil(self._clock() + self._lifetime_s)
        return f"{expiry}.{_encode(key_id.encode())}.{self._mac(decision_id, key_id, expiry)}"

    def check(self, token: str, decision_id: str) -> str:
        """The key id that the token speaks for. Raises FeedbackTokenError."""
        expiry_text, _, rest = token.partition(".")
        key_text, _, mac = rest.partition(".")
        if not re.fullmatch(r"[0-9]{1,12}", expiry_text, re.ASCII) or not mac.isascii():
            raise FeedbackTokenError("The feedback token is not valid for this decision.")
        key_id = _decode(key_text)
        if not hmac.compare_digest(self._mac(decision_id, key_id, int(expiry_text)), mac):
            raise FeedbackTokenError("The feedback token is not valid for this decision.")
        if int(expiry_text) < self._clock():
            raise FeedbackTokenError("The feedback token has expired.")
        return key_id

    def _mac(self, decision_id: str, key_id: str, expiry: int) -> str:
        parts = (decision_id.encode("utf-8", "surrogatepass"), key_id.encode("utf-8", "surrogatepass"))
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts) + expiry.to_bytes(8, "big")
        return _encode(hmac.digest(self._key, message, "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> str:
    """The text behind unpadded URL-safe base64; '' where it is none (the MAC then refuses it)."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return ""
