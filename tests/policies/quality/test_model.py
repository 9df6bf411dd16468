import numpy as np
import pytest

from policies.prompt.features import PromptFeatures, extract
from policies.quality.calibration import blend, brier, logit, reliability, sigmoid
from policies.quality.data import QualityData, ScoredAnswer
from policies.quality.model import QualityModel
from policies.quality.training import QualitySettings, fit

QUICK = QualitySettings(buckets=1 << 12, dimensions=8, hidden=16, epochs=25)
SUBJECTS = (
    "Solve {} + {} and show the number",
    "Translate sentence {} of page {} into French",
    "请解释第{}章第{}节的内容",
)


def prompts(count: int, seed: int = 0) -> tuple[list[PromptFeatures], np.ndarray]:
    random = np.random.default_rng(seed)
    subject = random.integers(len(SUBJECTS), size=count)
    return [extract(SUBJECTS[s].format(*random.integers(99, size=2))) for s in subject], subject


def world(count: int, seed: int = 0) -> tuple[QualityData, np.ndarray]:
    """'maths' answers subject 0 well, 'words' the others; both answer the rest at 0.2."""
    features, subject = prompts(count, seed)
    chance = np.stack([np.where(subject == 0, 0.9, 0.2), np.where(subject == 0, 0.2, 0.8)], axis=1)
    scores = (np.random.default_rng(seed + 1).random(chance.shape) < chance).astype(float)
    return QualityData.full(features, ["maths", "words"], scores), chance


@pytest.fixture(scope="module")
def model() -> QualityModel:
    return fit(world(300)[0], QUICK, now_s=0.0)


def predicted(model: QualityModel, features: list[PromptFeatures] | tuple[PromptFeatures, ...]) -> np.ndarray:
    return np.array([model.predict_all(prompt)[0] for prompt in features])


def test_it_learns_which_model_is_good_at_what(model: QualityModel) -> None:
    data, chance = world(200, seed=7)
    assert np.abs(predicted(model, data.features) - chance).mean() < 0.1
    assert (predicted(model, data.features).argmax(axis=1) == chance.argmax(axis=1)).mean() > 0.97


def test_predictions_are_calibrated_on_new_prompts(model: QualityModel) -> None:
    data, _ = world(600, seed=11)
    found = predicted(model, data.features)
    assert brier(found, data.scores) < brier(np.tile(data.scores.mean(axis=0), (600, 1)), data.scores) - 0.04
    assert reliability(found, data.scores)[1] < 0.08


def test_order_of_the_models_is_the_callers_and_strangers_are_nan(model: QualityModel) -> None:
    prompt = extract("Solve 1 + 2 and show the number")
    mean, std = model.predict(prompt, ["words", "stranger", "maths"])
    own, _ = model.predict_all(prompt)
    assert mean[0] == own[1]
    assert mean[2] == own[0]
    assert np.isnan(mean[1])
    assert np.isnan(std[1])


def test_uncertainty_is_positive_bounded_and_shrinks_with_evidence(model: QualityModel) -> None:
    few = fit(world(24)[0], QUICK, now_s=0.0)
    features, _ = prompts(60, seed=5)
    many_std = np.array([model.predict_all(prompt)[1] for prompt in features])
    few_std = np.array([few.predict_all(prompt)[1] for prompt in features])
    assert (many_std > 0).all()
    assert (few_std <= 0.5).all()
    assert few_std.mean() > 1.3 * many_std.mean()


def test_bytes_give_the_same_model_and_broken_ones_are_refused(model: QualityModel) -> None:
    back = QualityModel.from_bytes(model.to_bytes())
    prompt = extract("Translate sentence 3 of page 9 into French")
    assert back.revision == model.revision
    assert back.models == model.models
    assert np.array_equal(back.predict_all(prompt)[0], model.predict_all(prompt)[0])
    broken = QualityModel(model.manifest, {**model.arrays, "offset": np.array([np.nan, 0.0])})
    with pytest.raises(ValueError, match="offset"):
        QualityModel.from_bytes(broken.to_bytes())


def test_the_floor_under_answers_is_set_by_prompts_that_were_held_out(model: QualityModel) -> None:
    loaded = QualityModel.from_bytes(model.to_bytes())
    found = [loaded.least_prediction(model.models, 0.5, alpha) for alpha in (0.001, 0.3, 0.6)]
    assert found == [model.least_prediction(model.models, 0.5, alpha) for alpha in (0.001, 0.3, 0.6)]
    assert None not in found
    assert sorted(found, reverse=True) == found  # type: ignore[type-var]
    assert model.least_prediction(("stranger",), 0.5, 0.1) is None


def test_the_same_data_and_seed_give_the_same_revision() -> None:
    data, _ = world(60)
    assert fit(data, QUICK, now_s=0.0).revision == fit(data, QUICK, now_s=0.0).revision


def test_feedback_on_the_chosen_model_only_is_enough_when_weighted() -> None:
    data, chance = world(600, seed=31)
    random = np.random.default_rng(32)
    propensity = np.where(random.random(600) < 0.5, 0.75, 0.25)
    chosen = np.where(random.random(600) < propensity, 0, 1)
    weights = np.zeros_like(data.scores)
    weights[np.arange(600), chosen] = 1.0 / np.where(chosen == 0, propensity, 1.0 - propensity)
    seen = QualityData(data.features, data.models, np.where(weights > 0, data.scores, np.nan), weights)
    found = predicted(fit(seen, QUICK, now_s=0.0), data.features)
    assert (found.argmax(axis=1) == chance.argmax(axis=1)).mean() > 0.95


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_handful_of_answers_is_enough_to_start(count: int) -> None:
    features, _ = prompts(count)
    model = fit(QualityData.full(features, ["only"], np.ones((count, 1))), QUICK, now_s=0.0)
    assert 0.5 < predicted(model, features).mean() <= 1.0
    assert np.isfinite(model.predict_all(extract(""))[0]).all()


def test_no_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="no scored answers"):
        fit(QualityData.full([], [], np.zeros((0, 0))), QUICK)


def test_answers_are_grouped_by_prompt_and_the_last_one_counts() -> None:
    prompt = extract("Why?")
    old = ScoredAnswer("p", prompt, "a", 1.0, created_s=1.0)
    last = ScoredAnswer("p", prompt, "a", 0.0, created_s=2.0)
    data = QualityData.from_answers([last, old, ScoredAnswer("q", prompt, "b", 0.5)])
    assert data.models == ("a", "b")
    assert data.scores[0, 0] == 0.0
    assert np.isnan(data.scores[0, 1])
    with pytest.raises(ValueError, match="must be in"):
        QualityData.from_answers([ScoredAnswer("p", prompt, "a", 1.5)])


def test_blending_finds_the_predictor_that_knows() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.1, 0.9, size=(3000, 2))
    scores = (random.random(truth.shape) < truth).astype(float)
    logits = np.stack([logit(truth), random.normal(size=truth.shape)])
    slopes, offsets = blend(logits, scores, np.ones_like(scores), np.array([0.5, 0.5]), np.zeros(2), 20.0)
    assert slopes == pytest.approx([1.0, 0.0], abs=0.12)
    assert offsets == pytest.approx([0.0, 0.0], abs=0.12)
    assert sigmoid(logit(np.array([0.3]))) == pytest.approx([0.3])
