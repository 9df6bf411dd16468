"""GET /v1/usage: what keys have used today, counted by this ingress replica."""

from serve_app.http.request import Request, Send, send_json
from serve_app.routes.endpoint import Endpoint


class UsageApi:
    """The route: a key sees itself, one with the role `admin` sees all."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def get(self, request: Request, send: Send) -> None:
        """Raises ApiError (401, 403)."""
        key = self._endpoint.authorize(request, "infer", "read", "admin")
        keys = self._endpoint.keys.keys if "admin" in key.roles else (key,)
        data = [self._endpoint.limiter.today(shown) for shown in keys]
        await send_json(send, {"object": "list", "data": data})
