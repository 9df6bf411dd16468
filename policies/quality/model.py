"""The quality model as served: expected score of each model for one prompt, without torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from policies.arrays import F32, F64, I32
from policies.prompt.features import FEATURE_VERSION, PromptFeatures
from policies.quality.conformal import threshold_for
from policies.quality.kernel import packed, predict_quality, quality_inputs, quality_leaves

FORMAT: Final = 3
UNKNOWN: Final = -1.0  # in place of a score

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class QualityManifest:
    """What a quality model is, apart from its arrays."""

    models: tuple[str, ...]
    buckets: int
    created_s: float = 0.0
    prompts: int = 0
    answers: int = 0
    feature_version: int = FEATURE_VERSION
    format: int = FORMAT


class QualityModel:
    """Predicts scores in [0, 1] with a standard error; fitted by policies.quality.training.

    A blend of a small ensemble of networks over a prompt embedding and the prompt's style, of a linear
    model over its n-grams, and of a forest over what the networks see and what both of them say. Arrays,
    for D embedding dimensions, S style fields, K networks, H hidden units, M models, T trees: `weights`
    [buckets] idf; `table` [buckets, D + M], an n-gram's embedding and its linear effect on each model;
    `means` [M]; `style_mean`, `style_scale` [S]; `input` [K, D + S, H], `input_bias` [K, 1, H], `models`
    [K, H, M], `model_bias` [K, 1, M]; `split`, `threshold`, `child` and `roots` [T], the shape of the
    forest (policies.quality.forest), and `leaves` [L, M], the score beyond the mean in each leaf; `slopes`
    [3] of networks, linear model and forest and `offset` [M], the calibration; `evidence` [M] answers behind
    each model. Where prompts were held out, `held_predicted` and `held_scores` [N, M] are what was predicted
    of them and what they got, UNKNOWN where nothing.
    """

    def __init__(self, manifest: QualityManifest, arrays: Arrays) -> None:
        self.manifest = manifest
        self.models = manifest.models
        self.arrays = dict(arrays)
        self._column = {model: i for i, model in enumerate(manifest.models)}
        self._kernel = _kernel_arrays(arrays)
        self._floors: dict[tuple[tuple[int, ...], float, float], float | None] = {}
        self.revision = hashlib.sha256(self.to_bytes()).hexdigest()[:12]

    def inputs(self, features: PromptFeatures) -> tuple[F32, F32]:
        """[D + S] what the networks see of a prompt, [M] what the linear model adds to its bias."""
        dimensions = self.arrays["table"].shape[1] - len(self.models)
        weights, table, standard, *_ = self._kernel
        return quality_inputs(features.grams, features.style, weights, table, standard, dimensions)

    def leaves(self, features: PromptFeatures) -> I32:
        """[T] the leaf of each tree that a prompt falls into."""
        return quality_leaves(features.grams, features.style, *self._kernel[:-2])

    def predict_all(self, features: PromptFeatures) -> F64:
        """[2, M] expected scores and standard errors, in the order of `self.models`.

        The variance is the delete-a-group jackknife's over the networks' logits, each of which was
        fitted without one fold, carried through the sigmoid, and that of a share over as many answers
        as the model has.
        """
        found = np.empty((2, len(self.models)))
        predict_quality(features.grams, features.style, *self._kernel, found)
        return found

    def predict(self, features: PromptFeatures, models: Sequence[str]) -> tuple[F64, F64]:
        """[M] expected scores and standard errors of `models`; NaN for those it was never fitted on."""
        mean, std = self.predict_all(features)
        if models == self.models:
            return mean, std
        columns = [self._column.get(model, -1) for model in models]
        known = np.array(columns, dtype=np.intp) >= 0
        return np.where(known, mean[columns], np.nan), np.where(known, std[columns], np.nan)

    def least_prediction(self, models: Sequence[str], floor: float, alpha: float) -> float | None:
        """From which prediction on a choice among `models` falls below `floor` in a share `alpha` at most.

        Infinite where no choice keeps to that; None where this model has no answers to tell from.
        """
        columns = tuple(self._column[model] for model in models if model in self._column)
        key = columns, floor, alpha
        if key not in self._floors:
            self._floors[key] = self._least_prediction(columns, floor, alpha)
        return self._floors[key]

    def _least_prediction(self, columns: tuple[int, ...], floor: float, alpha: float) -> float | None:
        if not columns or "held_predicted" not in self.arrays:
            return None
        predicted = self.arrays["held_predicted"][:, columns].astype(np.float64)
        scores = self.arrays["held_scores"][:, columns].astype(np.float64)
        return threshold_for(predicted, np.where(scores == UNKNOWN, np.nan, scores), floor, alpha)

    def to_bytes(self) -> bytes:
        """safetensors with the manifest as metadata; only buckets that were seen, in half precision."""
        manifest = json.dumps(asdict(self.manifest), sort_keys=True)
        rows = np.flatnonzero(self.arrays["weights"]).astype(np.int32)
        stored = {**self.arrays, "rows": rows, "weights": self.arrays["weights"][rows]}
        stored["table"] = self.arrays["table"][rows].astype(np.float16)
        stored["leaves"] = self.arrays["leaves"].astype(np.float16)
        return save(
            {name: np.ascontiguousarray(stored[name]) for name in sorted(stored)}, {"manifest": manifest}
        )

    @staticmethod
    def from_bytes(data: bytes) -> "QualityModel":
        """Raises ValueError for another format, other features or non-finite numbers."""
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        fields = json.loads(header["__metadata__"]["manifest"])
        found = fields.get("format"), fields.get("feature_version")
        if found != (FORMAT, FEATURE_VERSION):
            raise ValueError(
                f"quality model: format and features are {found}, must be {(FORMAT, FEATURE_VERSION)}."
            )
        arrays = load(data)
        broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if broken:
            raise ValueError(f"quality model: arrays {broken} hold numbers that are not finite.")
        rows, buckets = arrays.pop("rows"), int(fields["buckets"])
        weights = np.zeros(buckets, dtype=np.float32)
        table = np.zeros((buckets, arrays["table"].shape[1]), dtype=np.float32)
        weights[rows], table[rows] = arrays["weights"], arrays["table"]
        leaves = arrays["leaves"].astype(np.float32)
        manifest = QualityManifest(**{**fields, "models": tuple(fields["models"])})
        return QualityModel(manifest, {**arrays, "weights": weights, "table": table, "leaves": leaves})


def _kernel_arrays(
    arrays: Arrays,
) -> tuple[F32, F32, F32, F32, F32, F64, I32, I32, F32, F64]:
    """What policies.quality.kernel reads, in its order: biases stand below the layers that they belong to."""

    def f32(array: npt.NDArray[Any]) -> F32:
        return np.ascontiguousarray(array, dtype=np.float32)

    first = np.concatenate([arrays["input"], arrays["input_bias"]], axis=1)  # [N, D + S + 1, H]
    least_variance = 1.0 / (arrays["evidence"].astype(np.float64) + 2.0)
    nodes, roots = packed(arrays)
    return (
        f32(arrays["weights"]),
        f32(arrays["table"]),
        f32(np.stack([arrays["style_mean"], 1.0 / arrays["style_scale"]])),
        f32(first.transpose(1, 0, 2).reshape(first.shape[1], -1)),
        f32(np.concatenate([arrays["models"], arrays["model_bias"]], axis=1)),
        np.stack([arrays["means"], arrays["offset"], least_variance]).astype(np.float64),
        nodes,
        roots,
        f32(arrays["leaves"]),
        np.array(arrays["slopes"]),
    )
