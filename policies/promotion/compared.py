"""One finished request as the canary and the alarms read it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComparedRequest:
    """One finished request of the version under test, or of the one that it is compared with.

    `reward` in [0, 1]; `expected` is what the other version was expected to earn on this very prompt, by
    the same models for both: subtracting it takes the prompt's own difficulty out of the comparison.
    """

    tested: bool  # whether it was the turn of the version under test
    reward: float
    expected: float
    failed: bool
    at_s: float  # wall clock at its end
    e2e_s: float = 0.0
    cost_usd: float = 0.0
    key_id: str = ""

    @property
    def surprise(self) -> float:
        """Reward above what was expected, in [-1, 1]."""
        return self.reward - self.expected
