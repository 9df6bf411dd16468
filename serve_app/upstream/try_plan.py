"""Which model is tried next: the named one and its chain, or the best and the next best, then all again."""

from deployments.dispatch.dispatch import Dispatch
from deployments.records.snapshot import ReplicaRow
from serve_app.upstream.failures import TryFailedError


class TryPlan:
    """The tries of one request. `tried` holds the replicas that had theirs, `failure` is the last one's."""

    def __init__(self, dispatch: Dispatch, most: int) -> None:
        """At most `most` tries that fail; a model that is too short for the prompt does not count as one."""
        models = [dispatch.decision.model, *dispatch.ranking]
        self.tried: set[str] = set()
        self.failure: TryFailedError | None = None
        self._columns = dispatch.columns
        self._left = most
        first = models[:1] if dispatch.is_named else []  # another of its replicas comes before its chain
        self._queue = first + models * (most if dispatch.is_named else 2)

    def next(self) -> str | None:
        """The model to try now; None where no try is left."""
        return self._queue.pop(0) if self._queue and self._left > 0 else None

    @property
    def others(self) -> frozenset[str]:
        """The models that may be tried after the present try."""
        return frozenset(self._queue) if self.may_repeat else frozenset()

    @property
    def may_repeat(self) -> bool:
        """Whether another try may follow the present one."""
        return self._left > 1

    def failed(self) -> None:
        """A try failed."""
        self._left -= 1

    def again(self, row: ReplicaRow) -> None:
        """The same replica may have the request in another form."""
        self.tried.discard(row.replica)
        self._queue.insert(0, row.model)

    def too_short(self, model: str) -> None:
        """The prompt is too long for `model`: not tried again; models with a longer context come first."""
        context, index = self._columns.context_tokens, self._columns.index
        had = context[index[model]]
        self._queue = [other for other in self._queue if other != model]
        self._queue.sort(key=lambda other: bool(context[index[other]] <= had))
