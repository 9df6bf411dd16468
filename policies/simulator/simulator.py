"""The simulated pools: event-driven queues with continuous batching, many independent pools in one call."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from policies.arrays import F64, Bools
from policies.observation import CALLER_FIELDS, MODEL_FIELDS, PROMPT_FIELDS, Observation
from policies.simulator.queues import (
    ABANDONED,
    MODEL,
    OFF,
    OPEN,
    POOL,
    REPLICA,
    REQUEST,
    WARM,
    Queues,
    fail_replica,
)
from policies.simulator.spec import PARAMS, ModelSpec, params
from policies.simulator.step import ObservationBatch, Stream, Table, observe, step
from policies.simulator.workload import Episode, QualityTable
from policies.utility import MOST_LOAD

_TYPICAL_PROMPT_TOKENS = 512.0  # means before anything has finished
_TYPICAL_OUTPUT_TOKENS = 200.0
_CALLER = ("accuracy_weight", "latency_weight", "cost_weight", "target_s")  # fields of POOL and CALLER_FIELDS


class QueueSimulator:
    """E pools of the same M models, each serving its own episode.

    `requests_kept` is K: the fields of request k stay readable at k % K until K more were dispatched;
    it must exceed what a pool can have open. A model that holds `in_flight_per_slot` requests for each slot
    takes no more, as in service. `blind` hides the live load from observations. Times in
    seconds, see policies.simulator.queues.Queues for shapes.
    """

    def __init__(
        self,
        models: Sequence[ModelSpec],
        table: QualityTable,
        pools: int = 1,
        *,
        deadline_s: float = 60.0,
        cost_scale_usd: float = 1e-3,
        in_flight_per_slot: float = MOST_LOAD,
        waiting_places: int = 512,
        requests_kept: int = 4096,
        blind: bool = False,
        seed: int = 0,
    ) -> None:
        if table.models != len(models):
            raise ValueError(f"The quality table knows {table.models} models, the pool has {len(models)}.")
        self.models = tuple(models)
        self.names = tuple(model.name for model in models)
        self.base_params = params(models)
        self.table = _table(table)
        size = (pools, len(models))
        replicas = int(self.base_params["max_replicas"].max())
        slots = int(self.base_params["slots"].max())
        self.queues = _empty_queues(size, replicas, slots, waiting_places, requests_kept, seed)
        self.queues.pools["deadline_s"] = deadline_s
        self.queues.pools["cost_scale_usd"] = cost_scale_usd
        self.queues.pools["in_flight_per_slot"] = in_flight_per_slot
        self.queues.pools["blind"] = blind
        self.observations = _empty_observations(size)
        self._stream: Stream | None = None
        self.ended = np.zeros(pools, dtype=np.bool_)
        self._all = np.ones(pools, dtype=np.bool_)

    @property
    def pools(self) -> int:
        """E."""
        return int(self.queues.pools.shape[0])

    @property
    def stream(self) -> Stream:
        """The episodes being served. Raises RuntimeError before the first `load`."""
        if self._stream is None:
            raise RuntimeError("No episode was loaded into the simulator.")
        return self._stream

    def load(self, pool: int, episode: Episode) -> None:
        """Empty one pool, start its replicas warm and give it an episode; requests keep their numbering."""
        length = episode.arrival_s.shape[0]
        if self._stream is None:
            self._stream = _empty_stream(self.pools, length)
        if length > self._stream.arrival_s.shape[1]:
            raise ValueError(
                f"Episodes of this simulator hold at most {self._stream.arrival_s.shape[1]} requests."
            )
        if int(episode.row.max()) >= self.table.score.shape[0]:
            raise ValueError(f"Row {int(episode.row.max())} is outside the quality table.")
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "predicted_tokens", "row"):
            getattr(self._stream, name)[pool, :length] = getattr(episode, name)
        self._stream.length[pool] = length - 1
        self._stream.cursor[pool] = 0
        self._clear(pool, float(episode.arrival_s[0]), episode)

    def _clear(self, pool: int, now_s: float, episode: Episode) -> None:
        q = self.queues
        q.params[pool] = self.base_params if episode.params is None else episode.params
        q.believed[pool] = q.params[pool]
        for name, value in zip(_CALLER, episode.caller, strict=True):
            q.pools[name][pool] = value
        replicas = q.replicas[pool]
        replicas[:] = np.zeros((), dtype=REPLICA)
        replicas["prefill_id"] = -1
        replicas["next_end"] = np.inf
        replicas["clock_s"] = now_s
        warm = np.arange(replicas.shape[1]) < q.params["min_replicas"][pool][:, None]
        replicas["status"] = np.where(warm, WARM, OFF)
        models = q.models[pool]
        models[:] = np.zeros((), dtype=MODEL)
        models["enabled"] = 1
        models["up_since_s"] = models["down_since_s"] = np.inf
        models["mean_prompt"] = _TYPICAL_PROMPT_TOKENS
        models["mean_output"] = _TYPICAL_OUTPUT_TOKENS * q.params["output_scale"][pool]
        outcomes = q.requests["outcome"][pool]
        outcomes[outcomes == OPEN] = ABANDONED

    def step(self, actions: npt.NDArray[np.int64], active: Bools | None = None) -> None:
        """Dispatch the waiting request of every active pool to model `actions` [E], go to the next arrival.

        Afterwards `observations` holds the observations, `ended` [E] which episodes are over, `earned` [E]
        the rewards that became known. Raises RuntimeError when a request is still open after K more.
        """
        fine = step(
            self.queues,
            self.stream,
            self.table,
            self.observations,
            actions,
            self._all if active is None else active,
            self.ended,
        )
        if not fine:
            places = self.queues.requests.shape[1]
            raise RuntimeError(f"A request was still open after {places} more: raise requests_kept.")

    def look(self, pool: int) -> None:
        """Write the observation of the request at the cursor into `observations`."""
        observe(self.queues, self.stream, self.table, self.observations, pool)

    def observation(self, pool: int) -> Observation:
        """The last observation of one pool as a policy takes it; a copy."""
        observations = self.observations
        return Observation(
            models=self.names,
            rows=observations.rows[pool].astype(np.float64),
            prompt=observations.prompt[pool].astype(np.float64),
            caller=observations.caller[pool].astype(np.float64),
            mask=observations.mask[pool].astype(np.bool_),
        )

    def kill(self, pool: int, model: int) -> None:
        """All replicas of a model die now: what they held fails; they start cold again."""
        now_s = float(self.queues.replicas["clock_s"][pool].max())
        for replica in range(self.queues.replicas.shape[2]):
            if self.queues.replicas["status"][pool, model, replica] != OFF:
                fail_replica(self.queues, pool, model, replica, now_s)

    @property
    def earned(self) -> F64:
        """[E] sum of the rewards that became known in the last step; a copy."""
        return np.array(self.queues.pools["earned"])

    def requests(self, pool: int, first: int, last: int) -> npt.NDArray[np.void]:
        """[last - first] the requests of decisions `first` to `last` - 1, fields of REQUEST; a copy."""
        return self.queues.requests[pool, np.arange(first, last) % self.queues.requests.shape[1]]


def _table(table: QualityTable) -> Table:
    return Table(
        *(
            np.array(a, dtype=np.float64)
            for a in (table.score, table.accuracy, table.accuracy_std, table.prompt)
        )
    )


def _empty_queues(
    size: tuple[int, int], replicas: int, slots: int, places: int, requests: int, seed: int
) -> Queues:
    replica = (*size, replicas)
    queues = Queues(
        pools=np.zeros(size[0], dtype=POOL),
        params=np.zeros(size, dtype=PARAMS),
        believed=np.zeros(size, dtype=PARAMS),
        models=np.zeros(size, dtype=MODEL),
        replicas=np.zeros(replica, dtype=REPLICA),
        slot_id=np.zeros((*replica, slots), dtype=np.int64),
        slot_end=np.zeros((*replica, slots)),
        queue=np.zeros((*replica, places), dtype=np.int64),
        requests=np.zeros((size[0], requests), dtype=REQUEST),
    )
    queues.requests["outcome"] = ABANDONED
    queues.pools["random"] = np.random.default_rng(seed).integers(1, 2**63, size[0], dtype=np.int64)
    return queues


def _empty_stream(pools: int, length: int) -> Stream:
    return Stream(
        arrival_s=np.zeros((pools, length)),
        prompt_tokens=np.zeros((pools, length)),
        output_tokens=np.zeros((pools, length)),
        predicted_tokens=np.zeros((pools, length)),
        row=np.zeros((pools, length), dtype=np.int64),
        length=np.zeros(pools, dtype=np.int64),
        cursor=np.zeros(pools, dtype=np.int64),
        decided=np.zeros(pools, dtype=np.int64),
    )


def _empty_observations(size: tuple[int, int]) -> ObservationBatch:
    return ObservationBatch(
        rows=np.zeros((*size, len(MODEL_FIELDS)), dtype=np.float32),
        prompt=np.zeros((size[0], len(PROMPT_FIELDS)), dtype=np.float32),
        caller=np.zeros((size[0], len(CALLER_FIELDS)), dtype=np.float32),
        mask=np.zeros(size, dtype=np.int8),
    )
