"""The compiled features are those that a plain formula for each name gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.learned.features import FEATURES, network_inputs, request_inputs
from policies.observation import CALLER_COLUMN, MODEL_COLUMN, MODEL_FIELDS, PROMPT_COLUMN, PROMPT_FIELDS
from policies.reward import ANSWER_SPREAD, NO_TARGET_S

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def observation(seed: int, models: int) -> Arrays:
    """Rows, prompt, caller and mask at random; some fields are 0, at least one model is allowed."""
    rng = np.random.default_rng(seed)
    rows = rng.exponential(3.0, (models, len(MODEL_FIELDS))) * (rng.random((models, len(MODEL_FIELDS))) < 0.9)
    prompt = rng.exponential(50.0, len(PROMPT_FIELDS))
    caller = rng.exponential(1.0, len(CALLER_COLUMN)) * (rng.random(len(CALLER_COLUMN)) < 0.7)
    mask = rng.random(models) < 0.7
    mask[rng.integers(models)] = True
    return rows, prompt, caller, mask


def plain(
    rows: np.ndarray, prompt: np.ndarray, caller: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """[M] of each feature and the `utility`."""
    r = {name: rows[:, column] for name, column in MODEL_COLUMN.items()}
    p = {name: prompt[column] for name, column in PROMPT_COLUMN.items()}
    a1, a2, a3, target = caller
    scale, total, tiny = target or NO_TARGET_S, a1 + a2 + a3 + 1e-9, 1e-9
    room = np.maximum(r["slots"], 1.0)
    late = np.mean(
        [
            ((r["ttft_s"] + (r["e2e_s"] - r["ttft_s"]) * spread - target) / scale).clip(0.0, 1.0)
            for spread in ANSWER_SPREAD
        ],
        axis=0,
    )
    speed = ((r["e2e_s"][mask].min() + tiny) / (r["e2e_s"] + tiny)).clip(None, 1.0)
    cheapness = ((r["cost_usd"][mask].min() + tiny) / (r["cost_usd"] + tiny)).clip(None, 1.0)
    share = (r["cost_usd"] / (r["cost_usd"][mask].max() + tiny)).clip(None, 4.0)
    claim = (r["tpot_s"] * p["output_tokens"] / room).clip(None, 4.0)
    load = (r["in_flight"] / room).clip(None, 4.0)
    weighted_claim = 3.0 * a2 * claim * (1.0 - late) / total
    formula = a1 * r["accuracy"] + a2 * speed + a3 * cheapness
    reward = a1 * r["accuracy"] - a2 * late - a3 * share
    answered = reward - claim * load * (1.0 - late)

    def gap(value: np.ndarray) -> np.ndarray:
        return (value - value[mask].max()).clip(-4.0)

    found = {
        "utility": answered - r["error_rate"] * (answered + a2).clip(0.0),
        "ttft": np.log1p(r["ttft_s"] / scale),
        "e2e": np.log1p(r["e2e_s"] / scale),
        "service": np.log1p(r["tpot_s"] * p["output_tokens"] / scale),
        "load": np.log1p(r["in_flight"] / room),
        "queue": np.log1p(r["waiting"] / room),
        "cost": np.log1p(r["cost_usd"] / 1e-3),
        "slots": np.log1p(r["slots"]),
        "replicas": np.log1p(r["replicas"]),
        "tpot": np.log1p(r["tpot_s"] / 0.01),
        **{name: r[name] for name in ("weight", "accuracy", "accuracy_std", "kv_use", "error_rate", "cold")},
        "age_s": r["age_s"],
        "lateness": late,
        "speed": speed,
        "cheapness": cheapness,
        "cost_share": share,
        "claim": claim,
        "claim_in_time": claim * (1.0 - late),
        "weighted_accuracy": 3.0 * a1 * r["accuracy"] / total,
        "weighted_lateness": 3.0 * a2 * late / total,
        "weighted_cost": 3.0 * a3 * (r["cost_usd"] / 1e-3).clip(None, 20.0) / total,
        "weighted_claim": weighted_claim,
        "claim_load": weighted_claim * load,
        "claim_queue": weighted_claim * (load - 1.0).clip(0.0),
        "accuracy_gap": gap(r["accuracy"]),
        "formula_gap": gap(formula / total),
        "reward_gap": gap(reward / total),
        **p,
        "prompt_tokens": 0.125 * np.log1p(p["prompt_tokens"]),
        "output_tokens": 0.125 * np.log1p(p["output_tokens"]),
        "turns": np.log1p(p["turns"]),
        **{name: caller[i] / total for name, i in CALLER_COLUMN.items() if name != "target_s"},
        "has_target": float(target > 0.0),
        "target": 0.25 * np.log1p(scale),
    }
    return {name: np.broadcast_to(value, mask.shape) for name, value in found.items()}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_every_feature_is_its_plain_formula(seed: int, models: int) -> None:
    seen = observation(seed, models)
    features, utility = network_inputs(*seen)
    assert all(map(np.array_equal, request_inputs(*seen), (features, utility)))
    expected = plain(*seen)
    assert utility == pytest.approx(expected.pop("utility"))
    assert set(expected) == set(FEATURES)
    for i, name in enumerate(FEATURES):
        assert features[:, i] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name
