"""How the formula's utility is weighted, and how decisive it is; no compiled code, for every process."""

from dataclasses import dataclass

DEFAULT_BETA = 20.0  # utilities of a good and a bad choice differ by some tenths; 20 makes that decisive
# Requests in flight for each slot of a model from which on `auto` passes it over, in service and in the
# simulator. The priced rule's load ends here: beyond it there is no choice to price.
MOST_LOAD = 4.0


@dataclass(frozen=True, slots=True)
class Weights:
    """The caller's trade-off: a1 (accuracy), a2 (latency), a3 (cost) of the formula, each >= 0."""

    accuracy: float = 1.0
    latency: float = 1.0
    cost: float = 0.0
