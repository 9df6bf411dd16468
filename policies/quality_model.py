"""The quality model as served: expected score of each model for one prompt, in numpy, without torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from policies.features import FEATURE_VERSION, PromptFeatures
from policies.observation import FloatArray
from policies.term_weights import normalised

FORMAT: Final = 1
EMBEDDING_SCALE: Final = 4.0  # length of the prompt embedding that the network sees
STYLE_LIMIT: Final = 4.0  # standard deviations
MOST_STD: Final = 0.5
LINEAR_RANGE: Final = (0.02, 0.98)

Arrays = Mapping[str, npt.NDArray[Any]]
F32 = npt.NDArray[np.float32]


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
    """Predicts scores in [0, 1] with a standard error; fitted by policies.quality_training.

    A blend of a small ensemble of networks over a prompt embedding and the prompt's style, and of a
    linear model over its n-grams. Arrays, for D embedding dimensions, S style fields, K networks, H
    hidden units, M models: `weights` [buckets] idf; `table` [buckets, D + M], an n-gram's embedding and
    its linear effect on each model; `linear_bias` [M]; `style_mean`, `style_scale` [S]; `input`
    [K, D + S, H], `input_bias` [K, 1, H], `models` [K, H, M], `model_bias` [K, 1, M]; `slopes` [2] of
    networks and linear model and `offset` [M], the calibration; `evidence` [M] answers behind each model.
    """

    def __init__(self, manifest: QualityManifest, arrays: Arrays) -> None:
        self.manifest = manifest
        self.models = manifest.models
        self.arrays = dict(arrays)
        self._column = {model: i for i, model in enumerate(manifest.models)}
        self._dimensions = arrays["table"].shape[1] - len(manifest.models)
        self._input = np.concatenate(list(arrays["input"]), axis=1)  # [D + S, K * H]
        self._input_bias = arrays["input_bias"].reshape(-1)
        self._style_rate = (1.0 / arrays["style_scale"]).astype(np.float32)
        self._jackknife = len(arrays["input"]) - 1.0
        self._least_variance = 1.0 / (arrays["evidence"].astype(np.float64) + 2.0)
        self.revision = hashlib.sha256(self.to_bytes()).hexdigest()[:12]

    def inputs(self, features: PromptFeatures) -> tuple[F32, F32]:
        """[D + S] what the networks see of a prompt, [M] the linear model's scores."""
        a, d = self.arrays, self._dimensions
        columns, values = normalised(features, a["weights"], self.manifest.buckets)
        bag = values @ a["table"].take(columns, axis=0)
        x = np.empty(d + len(features.style), dtype=np.float32)
        x[:d] = bag[:d] * (EMBEDDING_SCALE / (np.sqrt(bag[:d] @ bag[:d]) + 1e-6))
        style = (features.style - a["style_mean"]) * self._style_rate
        x[d:] = np.minimum(np.maximum(style, -STYLE_LIMIT), STYLE_LIMIT)
        return x, bag[d:] + a["linear_bias"]

    def predict_all(self, features: PromptFeatures) -> tuple[FloatArray, FloatArray]:
        """[M] expected scores and [M] standard errors, in the order of `self.models`.

        The variance is the delete-a-group jackknife's over the networks' logits, each of which was
        fitted without one fold, carried through the sigmoid, and that of a share over as many answers
        as the model has.
        """
        a = self.arrays
        x, linear = self.inputs(features)
        hidden = np.maximum(x @ self._input + self._input_bias, 0.0)
        members = hidden.reshape(len(a["models"]), 1, -1) @ a["models"] + a["model_bias"]
        p = np.minimum(np.maximum(linear, LINEAR_RANGE[0]), LINEAR_RANGE[1]).astype(np.float64)
        slopes = a["slopes"]
        centre = np.add.reduce(members, axis=0)[0] / len(members)
        spread = members[:, 0] - centre
        logits = slopes[0] * centre + slopes[1] * np.log(p / (1.0 - p)) + a["offset"]
        mean = 1.0 / (1.0 + np.exp(-logits))
        slack = mean * (1.0 - mean)  # also the slope of the sigmoid
        rate = slopes[0] * slopes[0] * self._jackknife / len(members)
        variance = slack * (rate * slack * np.add.reduce(spread * spread, axis=0) + self._least_variance)
        return mean, np.minimum(np.sqrt(variance), MOST_STD)

    def predict(self, features: PromptFeatures, models: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """[M] expected scores and standard errors of `models`; NaN for those it was never fitted on."""
        mean, std = self.predict_all(features)
        if tuple(models) == self.models:
            return mean, std
        columns = [self._column.get(model, -1) for model in models]
        known = np.array(columns, dtype=np.intp) >= 0
        return np.where(known, mean[columns], np.nan), np.where(known, std[columns], np.nan)

    def to_bytes(self) -> bytes:
        """safetensors with the manifest as metadata; only buckets that were seen, in half precision."""
        manifest = json.dumps(asdict(self.manifest), sort_keys=True)
        rows = np.flatnonzero(self.arrays["weights"]).astype(np.int32)
        stored = {**self.arrays, "rows": rows, "weights": self.arrays["weights"][rows]}
        stored["table"] = self.arrays["table"][rows].astype(np.float16)
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
            raise ValueError(f"quality model: format and features {found}, not {(FORMAT, FEATURE_VERSION)}.")
        arrays = load(data)
        broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if broken:
            raise ValueError(f"quality model: arrays {broken} hold numbers that are not finite.")
        rows, buckets = arrays.pop("rows"), int(fields["buckets"])
        weights = np.zeros(buckets, dtype=np.float32)
        table = np.zeros((buckets, arrays["table"].shape[1]), dtype=np.float32)
        weights[rows], table[rows] = arrays["weights"], arrays["table"]
        manifest = QualityManifest(**{**fields, "models": tuple(fields["models"])})
        return QualityModel(manifest, {**arrays, "weights": weights, "table": table})
