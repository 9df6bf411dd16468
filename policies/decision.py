"""A decision: which model, with what probability, and how to draw it again from the log."""

from dataclasses import dataclass

from policies.observation import FloatArray

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy chose for one request; enough to replay it.

    `probabilities` [M] is the distribution that was sampled, exploration included; `propensity` is
    its entry for the chosen model, exactly as used. `policy` names who decided, with the reason
    where it was not the active policy, such as `formula;fallback=error`.
    """

    index: int
    model: str
    propensity: float
    probabilities: FloatArray
    policy: str
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


def draw(probabilities: FloatArray, seed: int) -> int:
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
