"""A whole pool in this process: table, simulated models, ingress, each with real HTTP between them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deployments.keys.watch import KeyWatch
from deployments.model.config import ModelConfig
from deployments.model.model import Model
from deployments.model.server import EngineServer
from deployments.table.store.store import Store
from deployments.table.table import Table
from serve_app.config import IngressConfig
from serve_app.http.cors import Cors
from serve_app.http.guard import Guard, Limits
from serve_app.http.until_close import UntilClose
from serve_app.ingress import Ingress
from tests.model_parts import parted

KEY = "fs-test-key-0123456789abcdef"


class CancelAtDisconnect:
    """Cancels the app when its client leaves, as Serve does around an ingress replica's app."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def listen() -> None:
            while True:
                message = await receive()
                queue.put_nowait(message)
                if message["type"] == "http.disconnect":
                    return

        serving = asyncio.ensure_future(self._app(scope, queue.get, send))
        listening = asyncio.ensure_future(listen())
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        (serving if listening.done() else listening).cancel()
        await asyncio.gather(serving, listening, return_exceptions=True)


class LocalModel(Model):
    """Serve awaits `__del__`; Python does not, so tests call `leave` themselves."""

    def __del__(self) -> None:  # type: ignore[override]
        pass

    async def switch(self, **faults: Any) -> None:
        """Give the simulated engine these faults, and no others."""
        settings = self.settings.model_dump(mode="json", exclude_unset=True)
        await self.reconfigure({**settings, "faults": faults})


@dataclass
class Pool:
    """What a test may touch."""

    table: Table
    ingress: Ingress
    url: str
    client: httpx.AsyncClient
    models: list[LocalModel] = field(default_factory=list)

    async def add(self, name: str, replica: str = "", **config: Any) -> LocalModel:
        """Start one replica of a simulated model; returns when the ingress knows it."""
        simulated = {"decode_step_s": 0.002, "mean_output_tokens": 12, **config.pop("simulated", {})}
        engine = (
            {"engine": "openai"} if "upstream" in config else {"engine": "simulated", "simulated": simulated}
        )
        args, live = parted({"id": name, "drain_s": 0.2, **engine, **config})
        replica = replica or f"{name}-{len(self.models)}"
        model = LocalModel.__new__(LocalModel)
        model.__init__(ModelConfig.model_validate(args), self.table, "127.0.0.1", replica)  # type: ignore[misc]
        await model.reconfigure(live)
        self.models.append(model)
        for _ in range(1200):
            if any(row.replica == replica for row in self.ingress.upstreams.usable(name)):
                return model
            await asyncio.sleep(0.05)
        raise AssertionError(f"The ingress never heard of '{replica}'.")

    async def chat(self, model: str = "auto", text: str = "Hello there", **body: Any) -> httpx.Response:
        """One chat completion."""
        messages = [{"role": "user", "content": text}]
        return await self.client.post(
            "/v1/chat/completions", json={"model": model, "messages": messages, **body}
        )


async def make_pool(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Pool, Any]:
    monkeypatch.setenv("FASTSERVE_HOME", str(path))
    watch = KeyWatch(path / "keys.yaml", path / "key", environ={"FASTSERVE_API_KEY": KEY})
    table = Table(Store(f"sqlite:///{path / 'table.sqlite3'}"), key_watch=watch)
    ingress = Ingress(IngressConfig(), table, "ingress-1")
    await ingress.start()
    guard = Guard(CancelAtDisconnect(ingress.app()), Limits(4 * 2**20, 128 * 2**20, 1.0, 65_536))
    server = EngineServer(UntilClose(Cors(guard)), "127.0.0.1")
    await server.start()
    client = httpx.AsyncClient(
        base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=120.0, trust_env=False
    )
    return Pool(table, ingress, server.url, client), server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pool]:
    """A running ingress without models; one for each test module."""
    with pytest.MonkeyPatch.context() as patch:
        made, server = await make_pool(tmp_path_factory.mktemp("home"), patch)
        try:
            yield made
        finally:
            await made.client.aclose()
            for model in made.models:
                await model.leave()
            await made.ingress.stop()
            await server.stop()
            await made.table.close()
