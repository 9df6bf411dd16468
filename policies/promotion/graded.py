"""Graded pairs: one prompt, the choices of both versions, both answers graded.

Live scores are predictions wherever nobody votes, so a candidate that follows an error of the quality model
looks as good as it predicts. Graded answers are the residual to that: how much worse the candidate's choices
are, against the other version's, than was predicted of them.
"""

from dataclasses import dataclass

from policies.promotion.confidence import Betting, rescale


@dataclass(frozen=True, slots=True)
class GradedPair:
    """Scores in [0, 1] of the two models that the versions choose for one prompt, graded and predicted."""

    tested: float  # the candidate's
    other: float
    predicted: float
    predicted_other: float

    @property
    def residual(self) -> float:
        """How much better the candidate's choice did than predicted, against the other one."""
        return (self.tested - self.other) - (self.predicted - self.predicted_other)


class QualityTest:
    """Evidence, valid at any time, that the candidate's choices are worse than predicted by over `margin`.

    Pairs on which the versions agree say nothing and need not be given.
    """

    def __init__(self, margin: float) -> None:
        self._worse = Betting(rescale(margin, -1.0, 1.0), boldness=0.3, variance=0.1)
        self.count = 0
        self.total = 0.0

    def add(self, pair: GradedPair) -> None:
        """Take one pair."""
        self.count += 1
        self.total += pair.residual
        self._worse.update(rescale(-pair.residual, -1.0, 1.0))

    def is_worse(self, level: float) -> bool:
        """Whether there is enough evidence."""
        return self._worse.rejects(level)
