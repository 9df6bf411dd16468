import numpy as np
import pytest

from policies.observation import PROMPT_FIELDS
from policies.simulator.workload import Episode, QualityTable, predicted_lengths, synthetic_quality


def test_predicted_lengths_have_the_skill_and_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    true = np.exp(rng.normal(5.0, 0.8, 50_000))
    predicted = predicted_lengths(true, 0.6, rng)
    assert np.corrcoef(np.log(true), np.log(predicted))[0, 1] == pytest.approx(0.6, abs=0.02)
    assert predicted.mean() == pytest.approx(true.mean(), rel=0.05)
    assert predicted_lengths(true, 1.0, rng) == pytest.approx(true)


def test_synthetic_quality_is_calibrated_and_a_trade_off() -> None:
    table = synthetic_quality(6, 20_000, seed=1)
    assert set(np.unique(table.score)) == {0.0, 1.0}
    assert table.score[:, -1].mean() > table.score[:, 0].mean() + 0.2
    for low in (0.2, 0.4, 0.6, 0.8):
        near = np.abs(table.accuracy - low) < 0.05
        assert table.score[near].mean() == pytest.approx(low, abs=0.06)
    close = table.accuracy.argmax(axis=1)
    assert len(set(close.tolist())) > 1
    assert np.array_equal(table.expected().score, table.accuracy)


def test_shapes_are_checked() -> None:
    one = np.zeros((3, 2))
    with pytest.raises(ValueError, match="one shape"):
        QualityTable(one, one[:2], one, np.zeros((3, len(PROMPT_FIELDS))))
    with pytest.raises(ValueError, match=r"needs \(3, 8\)"):
        QualityTable(one, one, one, np.zeros((3, 1)))
    times = np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="must not descend"):
        Episode(times[::-1], times, times, times, np.zeros(2, dtype=np.int64), np.ones(4))
    with pytest.raises(ValueError, match="row of an episode"):
        Episode(times, times, times, times, np.zeros(3, dtype=np.int64), np.ones(4))
