import numpy as np
import pytest

from policies.quality.forest import leaf_values, members_of, plant
from policies.quality.kernel import leaves_of, packed


def steps(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two inputs, of which the first says by a sharp border which of two models is right."""
    inputs = np.random.default_rng(seed).uniform(-1.0, 1.0, size=(count, 2)).astype(np.float32)
    right = inputs[:, 0] > 0.3
    return inputs, np.stack([right, ~right], axis=1) - 0.5


def grown(inputs: np.ndarray, targets: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[L, M] values and [N, T] leaves."""
    forest = plant(inputs, targets, seen, trees=8, answers=4.0, seed=1)
    where = leaves_of(inputs, *packed(forest))
    return leaf_values(where, targets, seen), where


def test_a_sharp_border_is_found() -> None:
    inputs, targets = steps(500)
    values, where = grown(inputs, targets, np.ones((1, 500, 2)))
    assert np.abs(members_of(where, values, 1)[0] - targets).mean() < 0.1


def test_leaves_hold_enough_answers_of_each_model() -> None:
    inputs, targets = steps(400)
    seen = np.zeros((1, 400, 2))
    seen[0, np.arange(400), np.arange(400) % 2] = 1.0  # one model's answer to each prompt
    _, where = grown(inputs, targets, seen)
    assert np.bincount(where[:, 0]).min() >= 8  # prompts, so that each model has 4 of them


def test_members_do_not_look_at_what_is_held_out() -> None:
    inputs, targets = steps(200)
    seen = np.ones((2, 200, 2))
    seen[0, :100] = seen[1, 100:] = 0.0
    changed = targets.copy()
    changed[:100] *= -1.0
    for member, equal in ((0, True), (1, False)):
        first, second = (
            members_of(w, v, 2)[member] for v, w in (grown(inputs, y, seen) for y in (targets, changed))
        )
        assert np.array_equal(first, second) is equal


def test_a_leaf_is_drawn_to_nothing_by_one_answer() -> None:
    where = np.zeros((4, 1), dtype=np.int32)
    assert leaf_values(where, np.ones((4, 1)), np.ones((1, 4, 1)))[0, 0] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_prompts_give_trees_of_one_leaf(count: int) -> None:
    forest = plant(np.zeros((count, 2), np.float32), np.zeros((count, 1)), np.ones((1, count, 1)), 4, 8.0, 0)
    assert (forest["split"] == -1).all()
    assert len(forest["roots"]) == 4
