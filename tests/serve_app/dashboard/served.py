"""A dashboard over a pool in this process, as a browser reaches it, with the table and the ingress."""

import copy
from typing import Any

import httpx

from deployments.keys.entries import KeyFile
from deployments.keys.key import by_digest
from deployments.model.server import EngineServer
from serve_app.access.keys import KeyRing
from serve_app.config import DashboardConfig
from serve_app.dashboard.dashboard import Dashboard
from serve_app.http.admission import Admission
from serve_app.http.cors import App, Cors
from serve_app.http.guard import Guard, Limits
from serve_app.http.request import Receive, Send
from serve_app.ingress import Ingress
from tests.serve_app.fixed_keys import FixedKeys

PROFILES = {"customer-service": {"weights": {"accuracy": 2, "latency": 2, "cost": 0}}}


class MemoryPool:
    """Serve's config in memory; what is applied reaches the ingress as a live change does."""

    def __init__(self, ingress: Ingress) -> None:
        dispatch = {"weights": {"accuracy": 1, "latency": 1, "cost": 0}, "profiles": PROFILES}
        entry = {"name": "Ingress", "user_config": {"dispatch": dispatch}}
        app = {"name": "fastserve", "import_path": "serve_app.app:build", "deployments": [entry]}
        self.now: dict[str, Any] = {"applications": [app]}
        self.applied: list[str] = []
        self._ingress = ingress
        ingress.reconfigure(entry["user_config"])

    async def config(self) -> dict[str, Any]:
        return copy.deepcopy(self.now)

    async def apply(self, config: dict[str, Any], who: str) -> None:
        self.now = copy.deepcopy(config)
        self.applied.append(who)
        self._ingress.reconfigure(config["applications"][0]["deployments"][0]["user_config"])


def one_port(dashboard: App, endpoint: App) -> App:
    """Routes as HAProxy does: the longest prefix first."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        inner = dashboard if path == "/dashboard" or path.startswith("/dashboard/") else endpoint
        await inner(scope, receive, send)

    return app


class Served:
    """The dashboard and how to reach it. Tests drive its reading by `read`."""

    def __init__(self, pool: Any) -> None:
        self.pool, keys = pool, key_ring()
        pool.ingress.endpoint.keys = keys
        self.serve = MemoryPool(pool.ingress)
        self.dashboard = Dashboard(DashboardConfig(endpoint_url=pool.url), pool.table, self.serve)
        self.dashboard.desk.keys = keys
        limits = Limits(1024 * 1024, 16 * 1024 * 1024, 10.0, 65_536)
        guarded = Cors(Guard(self.dashboard.app(), limits, Admission()))  # not that of the ingress beside it
        self._server = EngineServer(one_port(guarded, pool.ingress.app()), "127.0.0.1")
        self.url = ""

    async def start(self, *, reading: bool = True) -> None:
        """Listen; `reading` runs the background work."""
        await self._server.start()
        self.url = self._server.url
        if reading:
            await self.dashboard.start()

    async def stop(self) -> None:
        """End all of it."""
        await self.dashboard.stop()
        await self._server.stop()

    async def read(self) -> None:
        """Take up what the table has."""
        await self.dashboard.feed.follow()
        await self.dashboard.feed.look()

    def client(self, key: str = "") -> "Browser":
        """A client with cookies of its own, blind to the environment's proxies."""
        return Browser(self.url, key)


class Browser(httpx.AsyncClient):
    """Sends what a browser sends along with a request from the dashboard's own page."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(
            base_url=url, timeout=30.0, trust_env=False, headers={"sec-fetch-site": "same-origin"}
        )
        self._text = key

    async def sign_in(self) -> httpx.Response:
        """Sign in with the key."""
        return await self.post("/dashboard/sign-in", json={"key": self._text})


READ, ADMIN, INFER = "fs-read-key-0123456789abc", "fs-admin-key-0123456789ab", "fs-infer-key-0123456789ab"


def key_ring() -> KeyRing:
    """Keys of three kinds, for the dashboard and the ingress."""
    entries = [
        {"name": "reader", "key": READ, "roles": ["read"]},
        {"name": "boss", "key": ADMIN, "roles": ["admin", "infer", "feedback", "read"]},
        {"name": "app", "key": INFER, "roles": ["infer", "feedback"]},
    ]
    return KeyRing(FixedKeys(by_digest(KeyFile.model_validate({"keys": entries}).keys)))
