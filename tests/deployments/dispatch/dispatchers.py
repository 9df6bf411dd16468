"""Dispatchers over small pools, with policies and models of quality that a test makes up."""

import time
from typing import Any

import numpy as np

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import DispatchRequest
from deployments.dispatch.settings import DispatchSettings
from deployments.records.snapshot import ModelRow
from policies.arrays import F64
from policies.observation import Observation
from policies.policy import Policy
from policies.prompt.features import PromptFeatures
from tests.clock import Clock
from tests.deployments.dispatch import asking
from tests.deployments.pools import View, model, snapshot


class Made(Policy):
    """Gives fixed probabilities, or does what it is told to before."""

    def __init__(
        self, values: object = (0.0, 1.0, 0.0), error: Exception | None = None, sleep_s: float = 0.0
    ) -> None:
        self.values, self.error, self.sleep_s, self.beta = values, error, sleep_s, 1.0

    def distribution(self, observation: Observation) -> F64:
        time.sleep(self.sleep_s)
        if self.error is not None:
            raise self.error
        return np.array(self.values)


class MadeQuality:
    """A quality model that knows one number, or fails."""

    def __init__(self, revision: str) -> None:
        self.revision = revision

    def predict(self, features: PromptFeatures, models: tuple[str, ...]) -> tuple[F64, F64]:
        if self.revision == "broken":
            raise RuntimeError("shape")
        return np.full(len(models), 0.5), np.full(len(models), 0.1)

    def least_prediction(self, models: tuple[str, ...], floor: float, alpha: float) -> float | None:
        return None


class MadeLoaders:
    """Takes `bad` for unusable bytes."""

    def quality(self, data: bytes, revision: str) -> MadeQuality:
        if data == b"bad":
            raise ValueError("not a quality model")
        return MadeQuality(revision)

    def policy(self, data: bytes) -> Policy:
        if data == b"bad":
            raise ValueError("not finite")
        return Made()


def pool() -> tuple[ModelRow, ...]:
    """Accurate and slow, middling, fast and weak."""
    return (
        model("large", accuracy=0.9, tpot_s=0.08, usd=8.0),
        model("medium", accuracy=0.75, tpot_s=0.03, usd=2.0),
        model("small", accuracy=0.5, tpot_s=0.01, usd=0.2),
    )


def dispatcher(*rows: ModelRow, wall: Clock | None = None, **given: object) -> Dispatcher:
    """A dispatcher whose breaker no busy machine opens; tests of the breaker have a clock of their own."""
    given.setdefault("breaker", {"decision_s": 60.0})
    view = View(snapshot(*(rows or pool())))
    return Dispatcher(
        view,
        DispatchSettings.model_validate(given),
        wall=wall or Clock(),
        loaders=MadeLoaders(),
        prompt_key=b"k",
    )


def ask(decision_id: str = "d", requested: str = "auto", **fields: Any) -> DispatchRequest:
    return asking.ask(decision_id, requested, **{"text": "Tell me a joke", **fields})
