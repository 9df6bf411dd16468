"""Sign-ins: the API key in a cookie that only this server can read, and that no script of a page can."""

import base64
import hashlib
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from deployments.keys.key import Key
from serve_app.dashboard.visit import PREFIX, READERS, Visitor
from serve_app.http.errors import forbidden, unauthorized

COOKIE: Final = "fastserve_dashboard"

FindKey = Callable[[bytes | None], Key | None]  # from an `Authorization` header


class Sessions:
    """Opens and ends sign-ins. A key that is revoked or expires ends its own; so does `session_s`.

    The cookie is the key, sealed with the pool's secret: a dashboard that restarts knows its viewers.
    """

    def __init__(
        self, find: FindKey, secret: str, session_s: float, wall: Callable[[], float] = time.time
    ) -> None:
        self._find = find
        digest = hashlib.sha256(b"fastserve dashboard session v1" + secret.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))
        self._session_s = session_s
        self._wall = wall
        self._ended: dict[str, float] = {}  # token -> when it would have ended by itself

    def sign_in(self, text: str) -> Visitor:
        """Raises ApiError: 401 for an unknown key, 403 for one without the role `read` or `admin`."""
        key = self._find(b"Bearer " + text.encode("utf-8", "replace"))
        if key is None:
            raise unauthorized()
        if key.roles.isdisjoint(READERS):
            raise forbidden(READERS)
        token = self._fernet.encrypt_at_time(text.encode(), int(self._wall())).decode()
        return Visitor(key, text, token)

    def visitor(self, cookies: bytes | None) -> Visitor | None:
        """Who is behind a `Cookie` header; None where nobody is signed in any more."""
        token = _token(cookies)
        if not token or token in self._ended:
            return None
        try:
            sealed = token.encode()
            text = self._fernet.decrypt_at_time(sealed, int(self._session_s), int(self._wall())).decode()
        except (InvalidToken, UnicodeError):
            return None
        key = self._find(b"Bearer " + text.encode())
        return None if key is None or key.roles.isdisjoint(READERS) else Visitor(key, text, token)

    def sign_out(self, visitor: Visitor) -> None:
        """End this sign-in, also for a copy of its cookie."""
        now_s = self._wall()
        self._ended = {token: end_s for token, end_s in self._ended.items() if end_s > now_s}
        self._ended[visitor.token] = now_s + self._session_s

    def cookie(self, token: str, secure: bool) -> bytes:
        """The `Set-Cookie` header; an empty token takes the cookie away."""
        age_s = int(self._session_s) if token else 0
        flags = f"Path={PREFIX}; Max-Age={age_s}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
        return f"{COOKIE}={token}; {flags}".encode()


def _token(cookies: bytes | None) -> str:
    try:
        found = SimpleCookie((cookies or b"").decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
