"""A bare Ray Serve pass-through to compare with: FastAPI in, httpx out, nothing between."""

from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from ray import serve
from ray.serve import Application

api = FastAPI()


class BareConfig(BaseModel):
    """Where requests go."""

    upstream: str
    key: str = ""  # of the upstream


class Bare:
    """Forwards a chat request as it came."""

    def __init__(self, upstream: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(base_url=upstream, headers=headers, timeout=60.0, limits=limits)

    @api.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        """Parse, send on, stream back."""
        body: dict[str, Any] = await request.json()
        forwarded = self.client.build_request("POST", "/v1/chat/completions", json=body)
        answer = await self.client.send(forwarded, stream=True)
        if body.get("stream"):
            kind = answer.headers["content-type"]
            return StreamingResponse(answer.aiter_raw(), status_code=answer.status_code, media_type=kind)
        return Response(await answer.aread(), answer.status_code, media_type="application/json")


def build(args: BareConfig) -> Application:
    """The app, mounted beside FastServe behind the same proxy."""
    return serve.deployment(max_ongoing_requests=512)(serve.ingress(api)(Bare)).bind(args.upstream, args.key)
