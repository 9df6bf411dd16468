"""Small pools for the tests of dispatch: snapshots, a view of them, a clock that is set by hand."""

from dataclasses import replace

from deployments.records.snapshot import (
    Estimate,
    ModelCard,
    ModelRow,
    Quantiles,
    ReplicaRow,
    ReplicaState,
    Snapshot,
)

NOW_S = 1_000.0


def model(
    name: str,
    *,
    accuracy: float = 0.5,
    tpot_s: float = 0.02,
    usd: float = 0.0,
    evaluated: float | None = None,
    requests: int = 100,
    state: ReplicaState = ReplicaState.WARM,
    silent_s: float = 0.1,
    replicas: int = 1,
    slots: int = 8,
    context_tokens: int = 4096,
    weight: float = 1.0,
    capabilities: frozenset[str] = frozenset({"chat"}),
) -> ModelRow:
    """One model that has been measured; `usd` is its price per million tokens of either kind."""
    card = ModelCard(
        name,
        "simulated",
        "none",
        context_tokens,
        weight=weight,
        accuracy_prior=accuracy,
        prompt_usd_per_mtok=usd,
        completion_usd_per_mtok=usd,
        capabilities=capabilities,
    )
    rows = tuple(
        ReplicaRow(f"{name}#{i}", name, "", state, slots=slots, pushed_at_s=NOW_S - silent_s)
        for i in range(replicas)
    )
    scores = {} if evaluated is None else {"": Estimate(evaluated, evaluated - 0.05, evaluated + 0.05, 300)}
    return ModelRow(
        card,
        rows,
        ttft_s=Quantiles(0.1, 0.2, 0.3, 0.1, 50),
        tpot_s=Quantiles(tpot_s, tpot_s, tpot_s, tpot_s, 50),
        output_tokens=Quantiles(64.0, 64.0, 64.0, 64.0, 50),
        requests=requests,
        accuracy=scores,
    )


def snapshot(*rows: ModelRow, version: int = 1, **fields: object) -> Snapshot:
    """A snapshot of these models, taken at NOW_S."""
    made = Snapshot("boot", version, NOW_S, {row.card.model: row for row in rows})
    return replace(made, **fields)  # type: ignore[arg-type]


class View:
    """A table view whose parts a test sets."""

    def __init__(self, shown: Snapshot) -> None:
        self.snapshot = shown
        self.age = 0.0
        self.flight: dict[str, int] = {}

    def age_s(self) -> float:
        return self.age

    def in_flight(self, name: str) -> int:
        return self.flight.get(name, 0)
