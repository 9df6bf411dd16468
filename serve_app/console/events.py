"""The JSON events of a streamed answer, as a client of the endpoint reads them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from deployments import sse


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each event, without the end mark."""
    async for event in sse.events(response.content.iter_any()):
        if event.data != sse.DONE:
            yield json.loads(event.data or b"")
