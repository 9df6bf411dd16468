"""When the evaluator may ask: it keeps behind the users, as the table's snapshot shows them."""

import time
from collections import Counter, deque
from collections.abc import Callable

from deployments.evaluator_settings import PaceSettings
from deployments.snapshot import ModelRow, ReplicaState, Snapshot

LAG_S = 1.0  # a snapshot may still count what ended this long ago
STALE_S = 5.0  # without a snapshot for this long nothing is asked


class Pace:
    """Tells users' requests from the evaluator's own and says which models may be asked now.

    The table counts requests of all callers. Its own the evaluator knows; as the snapshot lags, the
    most it had in flight during the last second are taken off.
    """

    def __init__(self, settings: PaceSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._seen_s = float("-inf")
        self._own: Counter[str] = Counter()
        self._levels: deque[tuple[float, str, int]] = deque()  # (until, model, requests in flight)
        self._busy: set[str] = set()  # models with too many users in the last snapshot
        self._busy_s: dict[str, float] = {}  # when that was last so

    @property
    def snapshot(self) -> Snapshot | None:
        """The last snapshot seen."""
        return self._snapshot

    def see(self, snapshot: Snapshot) -> None:
        """Take a new snapshot and note where users are."""
        self._snapshot, self._seen_s = snapshot, self._clock()
        self._busy = {model for model in snapshot.models if self._too_many_users(model)}
        self._busy_s |= dict.fromkeys(self._busy, self._seen_s)

    def begin(self, model: str) -> None:
        """A request of the evaluator goes out."""
        self._own[model] += 1

    def end(self, model: str) -> None:
        """It came back."""
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
        return bool(self._busy & concerned) or self._clock() - last_s < self.settings.quiet_s

    def _too_many_users(self, model: str) -> bool:
        row, users = self._row(model), self.users(model)
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
