"""An ingress in a process of its own, for `bench.py event_loop`: `FOLDER KEY UPSTREAM`.

The ingress as it ships behind its guard, its table beside it, one model whose only replica is UPSTREAM.
Prints its URL; then, for each line that comes in, the longest that one step has held the event loop since the
last.
"""

import asyncio
import gc
import json
import sys
import time
from asyncio import Handle
from pathlib import Path
from typing import Any, Final, cast

from deployments.keys.watch import KeyWatch
from deployments.model.server import EngineServer
from deployments.records.snapshot import ModelCard, ReplicaRow, ReplicaState
from deployments.table.store.store import Store
from deployments.table.table import Table
from serve_app.config import IngressConfig
from serve_app.http.cors import Cors
from serve_app.http.guard import Guard, limits_of
from serve_app.http.until_close import UntilClose
from serve_app.ingress import Ingress

MODEL: Final = "m"
CAPABILITIES: Final = frozenset({"chat", "tools", "vision", "json", "embeddings", "rerank"})
CARD: Final = ModelCard(MODEL, "openai", "", 100_000_000, capabilities=CAPABILITIES)


class Steps:
    """Times every step of the event loop, by the wall clock and by the CPU of its thread."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0
        run = Handle._run

        def timed(handle: Handle) -> None:
            began_s, cpu_s = time.perf_counter(), time.thread_time()
            run(handle)
            self.wall_s = max(self.wall_s, time.perf_counter() - began_s)
            self.cpu_s = max(self.cpu_s, time.thread_time() - cpu_s)

        setattr(Handle, "_run", timed)  # noqa: B010 - a method may not be assigned

    def told(self) -> dict[str, float]:
        """The longest step so far, in milliseconds, and begin anew."""
        found = {"wall_ms": 1000 * self.wall_s, "cpu_ms": 1000 * self.cpu_s}
        self.wall_s = self.cpu_s = 0.0
        return found


async def serve(folder: Path, key: str, upstream: str) -> None:
    """Until standard input ends."""
    watch = KeyWatch(folder / "keys.yaml", folder / "key", environ={"FASTSERVE_API_KEY": key})
    table = Table(Store(f"sqlite:///{folder / 'table.sqlite3'}"), key_watch=watch)
    ingress, config = Ingress(IngressConfig(), table, "ingress"), IngressConfig()
    await ingress.start()
    guarded = UntilClose(Cors(Guard(ingress.app(), limits_of(config))))
    server = EngineServer(cast(Any, guarded), "127.0.0.1")
    await server.start()
    await table.register_model(CARD)
    alive = asyncio.create_task(_keep_alive(table, upstream))
    steps, loop = Steps(), asyncio.get_running_loop()
    print(server.url, flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(steps.told()), flush=True)
        gc.collect()  # of the last body; the next one's is its own
        steps.told()
    alive.cancel()


async def _keep_alive(table: Table, upstream: str) -> None:
    """As a replica pushes its row."""
    while True:
        row = ReplicaRow("r", MODEL, upstream, ReplicaState.WARM, slots=64, pushed_at_s=time.time())
        await table.push_replica(row, [])
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
