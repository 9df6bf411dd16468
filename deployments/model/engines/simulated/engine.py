"""Engine `simulated`: seeded continuous batching with canned text, for load and fault tests.

`python -m deployments.model.engines.simulated.engine --port 9001 --model mock` serves it alone, without
token or limit.
"""

import argparse
import asyncio
import time

import uvicorn
from starlette.types import ASGIApp

from deployments.model.engines.base import Engine, EngineError, EngineStats
from deployments.model.engines.simulated.app import SimulatedApp
from deployments.model.engines.simulated.clock import BatchClock, Sequence
from deployments.model.settings import ModelSettings
from deployments.model.simulated_settings import SimulatedSettings
from deployments.records.records import EngineRecord


class SimulatedEngine(Engine):
    """A model that costs nothing and says so in `/v1/models`, in its text and in `system_fingerprint`."""

    def __init__(self, model: str, context_tokens: int, settings: SimulatedSettings) -> None:
        self._settings = settings
        self._clock = BatchClock(settings)
        self._app = SimulatedApp(model, context_tokens, settings, self._clock, self._record)
        self._finished: list[EngineRecord] = []
        self._stepping: asyncio.Task[None] | None = None

    async def start(self) -> ASGIApp:
        """Wait `startup_s`, then start the clock."""
        await asyncio.sleep(self._settings.startup_s)
        self._clock.stalled = self._app.faults.stalled
        self._stepping = asyncio.create_task(self._clock.run())
        return self._app

    def stats(self) -> EngineStats:
        """The clock's numbers; hanging requests count as running."""
        return EngineStats(
            running=self._clock.running + self._app.hanging,
            waiting=self._clock.waiting,
            slots=self._settings.max_sequences,
            kv_use=self._clock.kv_use,
            kv_tokens=self._settings.kv_tokens,
            tokens_per_s=self._clock.tokens_per_s,
            progressed_s=self._clock.progressed_s,
            is_computing=self._clock.is_stepping,
        )

    def take_finished(self) -> list[EngineRecord]:
        """The requests that finished since the last call."""
        finished, self._finished = self._finished, []
        return finished

    async def check_health(self) -> None:
        """Fail if the clock's task ended."""
        if self._stepping is None or self._stepping.done():
            raise EngineError("The simulated engine's clock does not run.")

    def reconfigure(self, settings: ModelSettings) -> None:
        """Switch faults; where `user_config` names none, those of the engine's own settings."""
        self._app.faults = settings.faults or self._settings.faults
        self._clock.stalled = self._app.faults.stalled
        self._clock.resume()

    async def stop(self) -> None:
        """Stop the clock."""
        if self._stepping is not None:
            self._stepping.cancel()
            await asyncio.gather(self._stepping, return_exceptions=True)

    def _record(self, decision_id: str, sequences: list[Sequence], finish_reason: str) -> None:
        first = sequences[0]
        end_s = max(sequence.finished_s or time.monotonic() for sequence in sequences)
        starts = [sequence.first_token_s for sequence in sequences if sequence.first_token_s is not None]
        produced = max(sequence.produced for sequence in sequences)
        began_s = min(starts) if starts else None
        admitted_s = first.admitted_s
        self._finished.append(
            EngineRecord(
                decision_id=decision_id,
                prompt_tokens=first.prompt_tokens,
                output_tokens=sum(sequence.produced for sequence in sequences),
                queue_s=None if admitted_s is None else admitted_s - first.arrived_s,
                prefill_s=None if admitted_s is None or began_s is None else began_s - admitted_s,
                ttft_s=None if began_s is None else began_s - first.arrived_s,
                tpot_s=None if began_s is None or produced < 2 else (end_s - began_s) / (produced - 1),
                e2e_s=end_s - first.arrived_s,
                finish_reason=finish_reason,
            )
        )


def main() -> None:
    """Serve one simulated engine alone; settings as `--set name=value`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--model", default="mock")
    parser.add_argument("--context-tokens", type=int, default=32_768)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting")
    args = parser.parse_args()
    settings = SimulatedSettings.model_validate(dict(pair.split("=", 1) for pair in args.set))
    asyncio.run(_serve(SimulatedEngine(args.model, args.context_tokens, settings), args.host, args.port))


async def _serve(engine: SimulatedEngine, host: str, port: int) -> None:
    app = await engine.start()
    await uvicorn.Server(uvicorn.Config(app, host=host, port=port, access_log=False, lifespan="off")).serve()


if __name__ == "__main__":
    main()
