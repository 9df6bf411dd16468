"""Weighted rendezvous hashing: a session's draw from a distribution that changes little when that does."""

import hashlib
import math

from policies.decision import uniform_from_seed
from policies.observation import FloatArray


def hash64(text: str, salt: bytes = b"") -> int:
    """64 bits of BLAKE2b, the same on every machine."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest()
    )


def rendezvous(probabilities: FloatArray, models: tuple[str, ...], seed: int) -> int:
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
