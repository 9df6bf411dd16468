"""How the chance of a false promotion is spent over the life of a pool: each test gets less."""

import math
from typing import Final

_TOTAL: Final = 2.109743  # sum over n from 1 of 1 / ((n + 1) * log(n + 1)^2)


def level(alpha: float, number: int) -> float:
    """The level of the test of this number, from 1: over all tests there will ever be they sum to `alpha`.

    Raises ValueError below 1.
    """
    if number < 1:
        raise ValueError(f"number: {number}, tests are counted from 1.")
    return alpha / (_TOTAL * (number + 1) * math.log(number + 1) ** 2)
