"""Holds the engines of the pool of a test, so that nobody's turn depends on how fast the machine is."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any


@contextlib.asynccontextmanager
async def slots_held(pool: Any) -> AsyncIterator[None]:
    """Meanwhile the engine of the first model makes no step."""
    await pool.models[0].switch(stalled=True)
    try:
        yield
    finally:
        await pool.models[0].switch()
