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

FORMAT: Final = 1
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

    Arrays, for D embedding dimensions, H hidden units, M models, P prompt fields: `table` [buckets, D],
    `input` [D + P, H], `input_bias` [H], `models` [H, M], `model_bias` [M], `slope` and `offset` [M]
    (calibration on held-out prompts), `std` [M].
    """

    def __init__(self, manifest: QualityManifest, arrays: Mapping[str, F32]) -> None:
        self.manifest = manifest
        self.models = manifest.models
        self.arrays = dict(arrays)
        self._mask = np.int32(manifest.buckets - 1)
        self._column = {model: i for i, model in enumerate(manifest.models)}
        self.revision = hashlib.sha256(self.to_bytes()).hexdigest()[:12]

    def predict_all(self, features: PromptFeatures) -> tuple[FloatArray, FloatArray]:
        """[M] expected scores and [M] standard errors, in the order of `self.models`."""
        a = self.arrays
        bag = features.values @ a["table"].take(features.ids & self._mask, axis=0)
        norm = float(np.sqrt(bag @ bag)) + 1e-6
        hidden = np.tanh((bag / norm) @ a["input"] + a["input_bias"])
        logit = a["slope"] * (hidden @ a["models"] + a["model_bias"]) + a["offset"]
        return 1.0 / (1.0 + np.exp(-logit.astype(np.float64))), a["std"].astype(np.float64)

    def predict(self, features: PromptFeatures, models: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """[M] expected scores and standard errors of `models`; NaN for those it was never fitted on."""
        mean, std = self.predict_all(features)
        columns = [self._column.get(model, -1) for model in models]
        known = np.array(columns) >= 0
        return np.where(known, mean[columns], np.nan), np.where(known, std[columns], np.nan)

    def to_bytes(self) -> bytes:
        """safetensors with the manifest as metadata; the same model always gives the same bytes."""
        manifest = json.dumps(asdict(self.manifest), sort_keys=True)
        return save({name: self.arrays[name] for name in sorted(self.arrays)}, {"manifest": manifest})

    @staticmethod
    def from_bytes(data: bytes) -> "QualityModel":
        """Raises ValueError for another format, other features or non-finite numbers."""
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        fields = json.loads(header["__metadata__"]["manifest"])
        manifest = QualityManifest(**{**fields, "models": tuple(fields["models"])})
        if (manifest.format, manifest.feature_version) != (FORMAT, FEATURE_VERSION):
            raise ValueError(
                f"quality model: format {manifest.format}, features {manifest.feature_version}: not readable."
            )
        arrays = load(data)
        broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if broken:
            raise ValueError(f"quality model: arrays {broken} hold numbers that are not finite.")
        return QualityModel(manifest, arrays)
