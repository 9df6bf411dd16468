"""One drifting episode: what happens to the pool, what the dispatcher can notice, what it did."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.arrays import F64
from policies.observation import MODEL_COLUMN, Observation
from policies.policy import Policy
from policies.simulator.queues import DONE, OPEN
from policies.simulator.simulator import QueueSimulator
from policies.simulator.workload import Episode
from scripts.benchmarks.load.drift_beliefs import QualityCorrection, SpeedCorrection

Requests = npt.NDArray[np.void]
Change = Callable[[QueueSimulator], None]  # what happens to the pool at the event

EVALUATED_PER_S = 4.0  # items per second that the evaluator grades, every model in turn
FEEDBACK_SHARE = 0.1  # of requests whose quality becomes known
FIRST_ITEMS = 50  # a new model is asked so many items before the turns go on
PRIOR_ACCURACY, PRIOR_STD = 0.5, 0.3  # of a model that nobody has evaluated
HEALTH_S = 1.5  # silence after which a dead replica is masked
EXPLORATION = 0.02


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind of change of `model`; an `absent` one is not in the pool before the event."""

    name: str
    model: int
    change: Change
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """What came of an episode of N requests: `requests` [N], `chosen` [N] models, `graded` [N] items of the
    affected model that had been evaluated when each request was dispatched."""

    requests: Requests
    chosen: npt.NDArray[np.int64]
    graded: npt.NDArray[np.int64]


class DriftingPool:
    """Steps one pool through an episode with an event, keeping the dispatcher's beliefs up to date."""

    def __init__(self, simulator: QueueSimulator, episode: Episode, drift: Drift, at: int, seed: int) -> None:
        self.sim, self.drift, self.at = simulator, drift, at
        self.random = np.random.default_rng([seed, 17])
        models = len(simulator.models)
        self.quality, self.speed = QualityCorrection(models), SpeedCorrection(models)
        simulator.load(0, episode)
        if drift.absent:
            simulator.queues.models["enabled"][0, drift.model] = 0
            simulator.table.accuracy[:, drift.model] = PRIOR_ACCURACY  # no quality model knows it yet
            simulator.table.accuracy_std[:, drift.model] = PRIOR_STD
        simulator.look(0)
        self.nominal = simulator.queues.params[0].copy()
        self.graded = np.zeros(models, dtype=np.int64)
        self.expected: dict[int, tuple[float, float]] = {}  # open request -> expected TPOT, predicted quality
        self.event_s = float(episode.arrival_s[at]) if at >= 0 else float("inf")
        self._evaluated_s = 0.0
        self._next_model = 0

    def run(self, policy: Policy, adapts: bool) -> Course:
        """Dispatch every request with `policy`.

        One that `adapts` explores with EXPLORATION and is told what the pool's telemetry and evaluations say.
        """
        count = int(self.sim.stream.length[0])
        chosen, graded = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        for number in range(count):
            if number == self.at:
                self.drift.change(self.sim)
                self.sim.look(0)
            if adapts:
                self._notice()
            observation = self._observation()
            decision = policy.decide(observation, seed=number, epsilon=EXPLORATION if adapts else 0.0)
            chosen[number], graded[number] = decision.index, self.graded[self.drift.model]
            raw = self.sim.observations.rows[0, decision.index]
            if adapts:
                self.expected[number] = (
                    float(raw[MODEL_COLUMN["tpot_s"]]),
                    float(raw[MODEL_COLUMN["accuracy"]]),
                )
            self.sim.step(np.array([decision.index], dtype=np.int64))
        return Course(self.sim.requests(0, 0, count), chosen, graded)

    def _now_s(self) -> float:
        return float(self.sim.stream.arrival_s[0, self.sim.stream.cursor[0]])

    def _observation(self) -> Observation:
        seen = self.sim.observation(0)
        rows, mask = seen.rows.copy(), seen.mask.copy()
        column = MODEL_COLUMN["accuracy"]
        rows[:, column] = self.quality.apply(rows[:, column])
        dead_s = self._now_s() - self.event_s
        if self.drift.name == "one dies" and 0.0 <= dead_s < HEALTH_S:
            mask[self.drift.model] = True  # its last row still counts as fresh
        return Observation(seen.models, rows, seen.prompt, seen.caller, mask)

    def _notice(self) -> None:
        """Finished requests and the evaluator's items since the last look, taken into the beliefs."""
        numbers = np.fromiter(self.expected, dtype=np.int64, count=len(self.expected))
        requests = self.sim.queues.requests[0, numbers % self.sim.queues.requests.shape[1]]
        for i in np.flatnonzero(requests["outcome"] != OPEN):
            tpot, predicted = self.expected.pop(int(numbers[i]))
            if requests["outcome"][i] == DONE:
                self._learn(requests[i], tpot, predicted)
        while self._evaluated_s + 1.0 / EVALUATED_PER_S <= self._now_s():
            self._evaluated_s += 1.0 / EVALUATED_PER_S
            self._evaluate()
        believed, factor = self.sim.queues.believed[0], self.speed.factor
        for name in ("step_base_s", "step_per_sequence_s"):
            believed[name] = self.nominal[name] * factor
        believed["prefill_tokens_per_s"] = self.nominal["prefill_tokens_per_s"] / factor

    def _learn(self, request: np.void, tpot: float, predicted: float) -> None:
        model = int(request["model"])
        if request["output_tokens"] > 1:
            measured = float((request["e2e_s"] - request["ttft_s"]) / (request["output_tokens"] - 1.0))
            self.speed.add(model, measured, tpot)
        if self.random.random() < FEEDBACK_SHARE:
            self.quality.add(model, float(request["score"]), predicted)

    def _evaluate(self) -> None:
        """One item graded for the next model in turn that is in the pool."""
        enabled = np.flatnonzero(self.sim.queues.models["enabled"][0])
        new = self.drift.model
        if self.drift.absent and new in enabled and self.graded[new] < FIRST_ITEMS:
            model = new
        else:
            model = int(enabled[self._next_model % len(enabled)])
            self._next_model += 1
        row = int(self.random.integers(0, len(self.sim.table.score)))
        self.graded[model] += 1
        self.quality.add(
            model, float(self.sim.table.score[row, model]), float(self.sim.table.accuracy[row, model])
        )


def moved_after(with_event: Course, without: Course, model: int, at: int, window: int = 200) -> int | None:
    """Requests after the event until half of the traffic that will move has moved.

    Traffic moves when the share of `model` differs from the same episode `without` the event. The answer is
    the start of the first `window` requests whose mean difference is at least half of that over the last
    1,000; None where less than 2 % of the traffic moves.
    """
    change = (with_event.chosen == model).astype(float) - (without.chosen == model)
    final = float(change[max(at, len(change) - 1000) :].mean())
    if abs(final) < 0.02:
        return None
    share = np.convolve(change[at:], np.ones(window) / window, mode="valid") / final
    return int(np.argmax(share >= 0.5)) if (share >= 0.5).any() else None


def lowest_window(gain: F64, size: int = 1000) -> float:
    """The worst mean over any `size` consecutive requests."""
    totals = np.concatenate(([0.0], np.cumsum(gain)))
    size = min(size, len(gain))
    return float(((totals[size:] - totals[:-size]) / size).min())
