"""What the drift study believes of models between fits; in service votes and live measurements tell it."""

from dataclasses import dataclass, field

import numpy as np

from policies.arrays import F64


@dataclass(slots=True)
class QualityCorrection:
    """Per model, the mean of score - prediction over recent graded answers, shrunk to 0 while there are few.

    With n_eff = sum of weights (each answer's weight halves after `half_life` newer ones), the correction
    is n_eff / (n_eff + `prior`) times the weighted mean.
    """

    models: int
    half_life: float = 40.0
    prior: float = 10.0
    _sum: F64 = field(init=False)
    _count: F64 = field(init=False)

    def __post_init__(self) -> None:
        self._sum, self._count = np.zeros(self.models), np.zeros(self.models)

    def add(self, model: int, score: float, predicted: float) -> None:
        """One graded answer of `model`; both numbers in [0, 1]."""
        keep = 0.5 ** (1.0 / self.half_life)
        self._sum[model] = keep * self._sum[model] + (score - predicted)
        self._count[model] = keep * self._count[model] + 1.0

    def apply(self, accuracy: F64) -> F64:
        """[M] predictions with the corrections added, within [0, 1]."""
        corrected: F64 = np.clip(accuracy + self._sum / (self._count + self.prior), 0.0, 1.0)
        return corrected


@dataclass(slots=True)
class SpeedCorrection:
    """Per model, the factor by which measured TPOT exceeds the one expected when the request was sent.

    A moving geometric mean over finished requests: log f += `rate` * log(measured / expected).
    """

    models: int
    rate: float = 0.1
    _log: F64 = field(init=False)

    def __post_init__(self) -> None:
        self._log = np.zeros(self.models)

    def add(self, model: int, measured_s: float, expected_s: float) -> None:
        """One finished request: its TPOT and the one expected with the factor of that time."""
        if measured_s > 0.0 and expected_s > 0.0:
            self._log[model] = np.clip(
                self._log[model] + self.rate * np.log(measured_s / expected_s), -4.0, 4.0
            )

    @property
    def factor(self) -> F64:
        """[M] how many times slower than nominal each model is believed to be."""
        return np.exp(self._log)
