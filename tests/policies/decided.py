"""What policies make of some observations; as a module, what they make of them in a process of its own.

`python -m tests.policies.decided CHECKPOINT` prints the numbers, and what it loaded of numba and scipy.
"""

import json
import sys
from pathlib import Path

import numpy as np

from policies.formula import observed_utility
from policies.learned.policy import LearnedPolicy
from policies.observation import MODEL_FIELDS, PROMPT_FIELDS, Observation
from policies.policy import FormulaPolicy
from policies.priced import PricedPolicy
from policies.reward import lateness, reward

SCALE = np.array([1, 1, 0.2, 5, 20, 0.1, 0.01, 40, 20, 32, 1, 0.2, 3, 1, 1])


def observation(seed: int, models: int) -> Observation:
    """Of so many models, some of them masked."""
    rng = np.random.default_rng(seed)
    mask = rng.random(models) < 0.8
    mask[0] = True
    return Observation(
        tuple(f"m{i}" for i in range(models)),
        rng.random((models, len(MODEL_FIELDS))) * SCALE,
        rng.random(len(PROMPT_FIELDS)) * 300.0,
        np.array([1.0, 1.0, 0.2, 10.0]),
        mask,
    )


def numbers(checkpoint: bytes) -> dict[str, list[float]]:
    """Probabilities, utilities, residuals and rewards."""
    learned = LearnedPolicy.from_bytes(checkpoint)
    found: dict[str, list[float]] = {"utility": [], "residual": []}
    for seed in range(20):
        seen = observation(seed, 1 + seed % 6)
        found["utility"] += observed_utility(seen).tolist()
        found["residual"] += learned.residuals(seen).tolist()
        for policy in (FormulaPolicy(), PricedPolicy(), learned):
            found.setdefault(policy.name, []).extend(policy.probabilities(seen, 0.05).tolist())
    found["reward"] = [
        float(reward(0.7, lateness(e2e_s, target_s), 0.3, 1.0, 0.5, 0.2))
        for e2e_s in (0.0, 3.0, 40.0)
        for target_s in (0.0, 2.0)
    ]
    return found


def main() -> None:
    """See above."""
    told = numbers(Path(sys.argv[1]).read_bytes())
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"numba", "llvmlite", "scipy"})
    print(json.dumps({"numbers": told, "loaded": loaded}))


if __name__ == "__main__":
    main()
