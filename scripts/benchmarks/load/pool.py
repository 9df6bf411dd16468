"""The pool of the load benchmarks: as many models as the quality table has, the stronger the slower."""

from collections.abc import Sequence

import numpy as np

from policies.arrays import F64
from policies.simulator.spec import ModelSpec

TARGET_S = 10.0
DEADLINE_S = 30.0
CALLER = np.array([1.0, 1.0, 0.2, TARGET_S])  # the one fixed utility: accuracy, lateness, cost


def pool(mean_scores: F64, names: Sequence[str]) -> list[ModelSpec]:
    """Models in the order of `mean_scores` [M]; rank r in [0, 1] from the weakest to the strongest.

    Decode step 8 ms * 5.5^r + 0.3 ms * 3^r per sequence, prefill 20,000 tokens/s / 6^r, prices
    $0.05 * 20^r per million prompt tokens and four times that per million answer tokens, 16 slots.
    """
    ranks = np.argsort(np.argsort(mean_scores)) / max(len(mean_scores) - 1, 1)
    return [
        ModelSpec(
            name=names[i],
            step_base_s=0.008 * 5.5**r,
            step_per_sequence_s=0.0003 * 3.0**r,
            prefill_tokens_per_s=20_000.0 / 6.0**r,
            slots=16,
            kv_tokens=60_000,
            prompt_usd_per_mtok=0.05 * 20.0**r,
            completion_usd_per_mtok=0.2 * 20.0**r,
        )
        for i, r in enumerate(ranks.tolist())
    ]
