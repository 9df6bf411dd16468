"""One request to the dashboard: who sends it, to what, and whether another site made the browser do it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from deployments.keys.key import Key
from serve_app.body.strict_json import parse
from serve_app.http.errors import ApiError, bad_request, forbidden
from serve_app.http.request import Receive

PREFIX: Final = "/dashboard"
READERS: Final = ("read", "admin")
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in. `text` is the key itself, which only the playground sends on."""

    key: Key
    text: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def is_admin(self) -> bool:
        """Whether the key may change anything."""
        return "admin" in self.key.roles


@dataclass(slots=True)
class Visit:
    """`path` is what follows `/dashboard`; `headers` are lower-case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    receive: Receive
    body: bytes = b""
    scheme: str = "http"

    @classmethod
    def of(cls, scope: Mapping[str, Any], receive: Receive) -> "Visit":
        """The request of an ASGI scope."""
        path = str(scope["path"]).removeprefix(PREFIX)
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=20))
        return cls(scope["method"], path, query, dict(scope["headers"]), receive, scheme=scope["scheme"])

    @property
    def is_safe(self) -> bool:
        """Whether the method changes nothing."""
        return self.method in _SAFE

    @property
    def is_https(self) -> bool:
        """Whether the browser came by TLS, here or at a proxy before."""
        return self.scheme == "https" or self.headers.get(b"x-forwarded-proto", b"") == b"https"

    @property
    def wants_page(self) -> bool:
        """Whether a browser opens this as a page."""
        return self.method == "GET" and b"text/html" in self.headers.get(b"accept", b"")

    def json(self) -> dict[str, Any]:
        """The body. Raises ApiError (400) for what is no JSON object."""
        return parse(self.body)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number of the query. Raises ApiError (400)."""
        text = self.query.get(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise bad_request(f"'{name}' must be a number from {low:g} to {high:g}.", name)
        return value

    def require_own_site(self) -> None:
        """Raises ApiError (403) where another site's page sent this, or may have."""
        site, origin = self.headers.get(b"sec-fetch-site"), self.headers.get(b"origin")
        if site is not None:
            opens = self.wants_page and self.headers.get(b"sec-fetch-mode") == b"navigate"
            own = site == b"same-origin" or (self.is_safe and (site == b"none" or opens))
        elif origin is not None:
            own = urlsplit(origin.decode("latin-1")).netloc == self.headers.get(b"host", b"").decode(
                "latin-1"
            )
        else:
            own = self.is_safe
        if not own:
            raise ApiError(
                403, "This request does not come from the dashboard's own page.", code="cross_site"
            )


def require_admin(visitor: Visitor) -> None:
    """Raises ApiError (403) for a key without the role `admin`."""
    if not visitor.is_admin:
        raise forbidden(("admin",))
