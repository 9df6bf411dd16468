"""A decision: which model, with what probability, and how to draw it again from the log."""

import hashlib
import math
from dataclasses import dataclass

from policies.arrays import F64, Bools
from policies.decider import Decider


def is_distribution(probabilities: F64, mask: Bools | None = None) -> bool:
    """Whether `probabilities` [M] can be sampled: finite, >= 0, sums to 1, all of it inside `mask` [M]."""
    if mask is not None and probabilities.shape != mask.shape:
        return False
    given = probabilities.tolist()
    allowed = given if mask is None else [p for p, may in zip(given, mask.tolist(), strict=True) if may]
    return abs(sum(allowed) - 1.0) < 1e-6 and abs(sum(given) - 1.0) < 1e-6 and min(given) >= 0.0


_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy chose for one request; enough to replay it.

    `probabilities` [M] is the distribution that was sampled, exploration included; `propensity` is
    its entry for the chosen model, exactly as used.
    """

    index: int
    model: str
    propensity: float
    probabilities: F64
    decider: Decider
    epsilon: float
    seed: int


def uniform_from_seed(seed: int) -> float:
    """A number in [0, 1) from a 64-bit seed, the same on every machine.

    SplitMix64's output function (Steele, Lea, Flood 2014), 53 high bits.
    """
    z = (seed + 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return ((z ^ (z >> 31)) >> 11) / (1 << 53)


def draw(probabilities: F64, seed: int) -> int:
    """Index drawn from `probabilities` [M] by inverse CDF at `uniform_from_seed(seed)`.

    An entry of probability 0 is never drawn, whatever the rounding of the sum.
    """
    entries = probabilities.tolist()
    u = uniform_from_seed(seed) * sum(entries)
    chosen, total = -1, 0.0
    for index, p in enumerate(entries):
        if p <= 0.0:
            continue
        chosen, total = index, total + p
        if u < total:
            break
    if chosen < 0:
        raise ValueError("probabilities: all 0, at least one model must have a positive one.")
    return chosen


def hash64(text: str, salt: bytes = b"") -> int:
    """64 bits of BLAKE2b, the same on every machine."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest()
    )


def rendezvous(probabilities: F64, models: tuple[str, ...], seed: int) -> int:
    """Index of the model with the largest p_i / -ln u_i, with u_i from (`seed`, model name).

    Over seeds this samples `probabilities` [M] exactly; for one seed, a model's leaving or arriving
    moves only the choices that it held or takes (Thaler and Ravishankar 1998, weighted form).
    Raises ValueError when no probability is above 0.
    """
    best, chosen = 0.0, -1
    for index, p in enumerate(probabilities.tolist()):
        if p <= 0.0:
            continue
        u = uniform_from_seed(seed ^ hash64(models[index]))
        value = p / -math.log(max(u, 1e-300)) if u > 0.0 else p * 1e-3
        if value > best:
            best, chosen = value, index
    if chosen < 0:
        raise ValueError("probabilities: all 0, at least one model must have a positive one.")
    return chosen
