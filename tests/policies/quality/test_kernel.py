"""The compiled prediction is that of a plain one in numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.prompt.features import PromptFeatures, extract
from policies.prompt.style import STYLE_SIZE
from policies.quality.kernel import EMBEDDING_SCALE, STYLE_LIMIT
from policies.quality.model import QualityManifest, QualityModel
from policies.quality.tfidf import normalised

BUCKETS, D, H, N, T = 1 << 10, 24, 16, 4, 5


def random_model(models: int, seed: int) -> QualityModel:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    weights = np.where(rng.random(BUCKETS) < 0.7, rng.random(BUCKETS) + 0.5, 0.0)
    arrays = {
        "weights": weights.astype(np.float32),
        "table": normal(BUCKETS, D + models) * (weights > 0)[:, None].astype(np.float32),
        "means": normal(models) * np.float32(0.1) + np.float32(0.5),
        "style_mean": normal(STYLE_SIZE), "style_scale": rng.random(STYLE_SIZE).astype(np.float32) + 0.05,
        "input": normal(N, D + STYLE_SIZE, H) * np.float32(0.1), "input_bias": normal(N, 1, H),
        "models": normal(N, H, models) * np.float32(0.1), "model_bias": normal(N, 1, models),
        **random_forest(D + STYLE_SIZE + 2 * models, rng), "leaves": normal(4 * T, models) * np.float32(0.2),
        "slopes": np.array([0.5, 0.2, 0.3]), "offset": rng.standard_normal(models),
        "evidence": rng.integers(0, 50, models).astype(np.float64),
    }  # fmt: skip
    return QualityModel(QualityManifest(tuple(f"m{i}" for i in range(models)), BUCKETS), arrays)


def random_forest(inputs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Trees of three questions and four leaves each."""
    roots = np.arange(T, dtype=np.int32) * 7
    split, child = np.full((T, 7), -1), np.zeros((T, 7))
    split[:, :3] = rng.integers(inputs, size=(T, 3))
    child[:, :3] = roots[:, None] + [1, 3, 5]
    child[:, 3:] = np.arange(4 * T).reshape(T, 4)
    return {
        "split": split.ravel().astype(np.int32), "threshold": rng.standard_normal(7 * T).astype(np.float32),
        "child": child.ravel().astype(np.int32), "roots": roots,
    }  # fmt: skip


def said_by_forest(a: dict[str, np.ndarray], sight: np.ndarray) -> np.ndarray:
    said = []
    for root in a["roots"]:
        node = int(root)
        while a["split"][node] >= 0:
            node = int(a["child"][node] + (sight[int(a["split"][node])] > a["threshold"][node]))
        said.append(a["leaves"][int(a["child"][node])])
    return np.mean(said, axis=0)


def log_odds(p: np.ndarray) -> np.ndarray:
    p = p.clip(0.02, 0.98)
    return np.log(p / (1.0 - p))


def plain(model: QualityModel, features: PromptFeatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a = {name: np.asarray(array, dtype=np.float64) for name, array in model.arrays.items()}
    columns, values = normalised(features, model.arrays["weights"], BUCKETS)
    bag = values @ a["table"][columns]
    embedding = bag[:D] * EMBEDDING_SCALE / (np.linalg.norm(bag[:D]) + 1e-6)
    style = ((features.style - a["style_mean"]) / a["style_scale"]).clip(-STYLE_LIMIT, STYLE_LIMIT)
    x = np.concatenate([embedding, style])
    hidden = np.maximum(x @ a["input"] + a["input_bias"][:, 0], 0.0)  # [N, H]
    members = (hidden[:, None] @ a["models"] + a["model_bias"])[:, 0]  # [N, M]
    guesses = [members.mean(axis=0), log_odds(bag[D:] + a["means"])]
    guess = np.mean(guesses, axis=0)
    sight = np.concatenate([x, np.stack([guess, guess - guess.mean()], axis=1).ravel()])
    guesses.append(log_odds(said_by_forest(a, sight) + a["means"]))
    logits = a["slopes"] @ guesses + a["offset"]
    mean = 1.0 / (1.0 + np.exp(-logits))
    slack = mean * (1.0 - mean)
    spread = (N - 1.0) * members.var(axis=0) * (a["slopes"][0] + a["slopes"][2]) ** 2
    variance = slack * slack * spread + slack / (a["evidence"] + 2.0)
    return x, mean, np.minimum(np.sqrt(variance), 0.5)


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(1, 9), st.integers(0, 20))
def test_the_compiled_prediction_is_the_plain_one(text: str, models: int, seed: int) -> None:
    model, features = random_model(models, seed), extract(text)
    x, mean, std = plain(model, features)
    assert np.allclose(model.inputs(features)[0], x, atol=1e-3)
    found = model.predict_all(features)
    assert np.allclose(found[0], mean, atol=1e-4)
    assert np.allclose(found[1], std, atol=1e-4)
