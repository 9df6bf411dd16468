"""Cross-origin headers for browsers, only for the origins that the operator named."""

from serve_app.http.request import Header, Request

_EXPOSED = (
    b"x-request-id, x-fastserve-model, x-fastserve-decision-id, x-fastserve-policy, "
    b"x-fastserve-feedback-token, x-fastserve-fallbacks, x-fastserve-degraded, retry-after"
)
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, x-request-id, x-fastserve-feedback-token",
    ),
    (b"access-control-max-age", b"600"),
]


def cors_headers(request: Request, origins: tuple[str, ...]) -> list[Header]:
    """Headers for an answer to `request`; none for an origin not named."""
    if not origins:
        return []
    origin = request.headers.get(b"origin", b"")
    if origin.decode("latin-1") not in origins:
        return []
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"origin"),
    ]
    return headers + _PREFLIGHT if request.method == "OPTIONS" else headers
