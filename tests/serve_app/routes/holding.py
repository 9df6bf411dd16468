"""Holds the engines of the pool of a test, so that nobody's turn depends on how fast the machine is."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any


async def switch(model: Any, **faults: Any) -> None:
    """Give a simulated model these faults, and no others."""
    settings = model.settings.model_dump(mode="json", exclude_unset=True)
    await model.reconfigure({**settings, "faults": faults})


@contextlib.asynccontextmanager
async def slots_held(pool: Any) -> AsyncIterator[None]:
    """Meanwhile the engine of the first model makes no step."""
    await switch(pool.models[0], stalled=True)
    try:
        yield
    finally:
        await switch(pool.models[0])
