"""When the evaluator may ask: it keeps behind the users, as the table's snapshot shows them."""

import time
from collections import Counter, deque
from collections.abc import Callable

from deployments.evaluation.settings import PaceSettings
from deployments.records.snapshot import ModelRow, ReplicaState, Snapshot

LAG_S = 1.0  # a snapshot may still count what ended this long ago
STALE_S = 5.0  # without a snapshot for this long nothing is asked
GONE_S = 30.0  # users who sent nothing for this long have left
MEMORY = 1_000.0  # users' requests over which their share that met an evaluation is taken


class Pace:
    """Tells users' requests from the evaluator's own and says which models may be asked now.

    The table counts requests of all callers. Its own the evaluator knows; as the snapshot lags, the
    most it had in flight during the last second are taken off. Answers too short to be seen in flight
    show in the number of finished requests. Every stretch of evaluation that users end costs one of them
    time, so where more than `met_share` of them paid that, it rests until they are gone.
    """

    def __init__(self, settings: PaceSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._seen_s = float("-inf")
        self._own: Counter[str] = Counter()
        self._levels: deque[tuple[float, str, int]] = deque()  # (until, model, requests in flight)
        self._ended: Counter[str] = Counter()  # own requests that came back
        self._boot_id = ""
        self._known: dict[str, int] = {}  # finished requests of users, the most that were ever seen
        self._came = self._met = 0.0  # users' requests of late, and those that came upon an evaluation
        self._busy: set[str] = set()  # models with too many users in the last snapshot
        self._busy_s: dict[str, float] = {}  # when that was last so

    @property
    def snapshot(self) -> Snapshot | None:
        """The last snapshot seen."""
        return self._snapshot

    def see(self, snapshot: Snapshot) -> None:
        """Take a new snapshot and note where users are."""
        self._snapshot, self._seen_s = snapshot, self._clock()
        finished = self._finished_by_users(snapshot)
        before, self._busy = self._busy, {m for m in snapshot.models if self._too_many_users(m, finished[m])}
        new = bool(self._busy) and not before
        came = max(sum(finished.values()), int(new))
        fade = 1.0 - min(came / MEMORY, 1.0)
        self._came = self._came * fade + came
        self._met = self._met * fade + (new and self._own.total() > 0)
        self._busy_s |= dict.fromkeys(self._busy, self._seen_s)

    def begin(self, model: str) -> None:
        """A request of the evaluator goes out."""
        self._own[model] += 1

    def end(self, model: str) -> None:
        """It came back."""
        self._ended[model] += 1
        self._levels.append((self._clock(), model, self._own[model]))
        self._own[model] -= 1

    def users(self, model: str) -> int:
        """Requests of users in flight at a model."""
        row = self._row(model)
        return 0 if row is None else max(0, row.in_flight - self._own_lately(model))

    def why_not(self, model: str) -> str | None:
        """Why a model may not be asked now; None where it may."""
        row = self._row(model)
        if row is None or self._clock() - self._seen_s > STALE_S:
            return "not in the table" if self._snapshot is not None else "no table"
        if not any(replica.state is ReplicaState.WARM for replica in row.replicas):
            return "no warm replica"
        return "users" if self._held_by_users(model) else None

    def _held_by_users(self, model: str) -> bool:
        """Too many users now, or not long enough ago; of this model, or of any where they share a machine."""
        concerned = set(self._busy_s) if self.settings.shared_machine else {model}
        last_s = max((self._busy_s.get(name, float("-inf")) for name in concerned), default=float("-inf"))
        quiet_s = self.settings.quiet_s
        if self._met > self.settings.met_share * self._came:
            quiet_s = max(quiet_s, GONE_S)
        return bool(self._busy & concerned) or self._clock() - last_s < quiet_s

    def _finished_by_users(self, snapshot: Snapshot) -> dict[str, int]:
        """Users' requests that ended since the last snapshot, by model.

        The table counts the evaluator's own a little late, so the difference may fall and come back: only
        a new maximum is a user. A table that began anew, and a model first seen, say nothing.
        """
        if snapshot.boot_id != self._boot_id:
            self._boot_id, self._known = snapshot.boot_id, {}
        found = {}
        for model, row in snapshot.models.items():
            count = row.requests - self._ended[model]
            known = self._known.get(model, count)
            found[model], self._known[model] = max(0, count - known), max(count, known)
        return found

    def _too_many_users(self, model: str, finished: int) -> bool:
        row, users = self._row(model), max(self.users(model), finished)
        if row is None or users == 0:
            return False
        slots = sum(replica.slots for replica in row.replicas)
        waiting = sum(replica.waiting for replica in row.replicas)
        return waiting > 0 or users > self.settings.user_share * slots

    def _own_lately(self, model: str) -> int:
        """The most that were in flight at once during the last second."""
        while self._levels and self._clock() - self._levels[0][0] > LAG_S:
            self._levels.popleft()
        return max([self._own[model], *(level for _, name, level in self._levels if name == model)])

    def _row(self, model: str) -> ModelRow | None:
        return None if self._snapshot is None else self._snapshot.models.get(model)
