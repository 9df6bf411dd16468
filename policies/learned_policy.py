"""The learned policy at serving: the formula plus the network's residual, in numpy."""

from typing import Self

import numpy as np
import numpy.typing as npt

from policies.checkpoint import CheckpointError, Manifest, Tensors, dump, parse
from policies.network_features import network_inputs
from policies.observation import MODEL_COLUMN, FloatArray, Observation
from policies.policy import Policy, masked_softmax

_NAMES = (
    "encode.weight", "encode.bias", "own.weight", "own.bias",
    "context.weight", "score.weight", "score.bias", "skip.weight",
)  # fmt: skip
RESIDUAL_SCALE = 20.0  # as in policies.network; a test holds the two equal


class LearnedPolicy(Policy):
    """pi = softmax(beta * w_i * U_i + g_theta(observation)_i); g = 0 is exactly the formula."""

    name = "learned"

    def __init__(self, tensors: Tensors, manifest: Manifest) -> None:
        missing = [name for name in _NAMES if f"policy.{name}" not in tensors]
        if missing or "keep" not in tensors:
            raise CheckpointError(f"Checkpoint lacks tensor '{missing[0] if missing else 'keep'}'.")
        self.manifest = manifest
        self.beta = manifest.beta
        self._tensors = dict(tensors)
        w = {name: np.asarray(tensors[f"policy.{name}"], dtype=np.float32) for name in _NAMES}
        # `keep` is folded into the first layer: switched-off features have weight 0.
        self._encode = np.ascontiguousarray((w["encode.weight"] * tensors["keep"]).T)
        self._own = np.ascontiguousarray(w["own.weight"].T)
        self._context = np.ascontiguousarray(w["context.weight"].T)
        self._score = np.ascontiguousarray(w["score.weight"][0]) * np.float32(RESIDUAL_SCALE)
        self._skip = np.ascontiguousarray((w["skip.weight"] * tensors["keep"])[0]) * np.float32(
            RESIDUAL_SCALE
        )
        self._encode_bias, self._own_bias = w["encode.bias"], w["own.bias"]
        self._score_bias = float(w["score.bias"][0]) * RESIDUAL_SCALE

    @property
    def revision(self) -> str:
        """Identity of these weights."""
        return self.manifest.revision

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises CheckpointError when damaged, stale or not finite."""
        return cls(*parse(data))

    def to_bytes(self) -> bytes:
        """The checkpoint this policy was made from."""
        return dump(self._tensors, self.manifest)

    def residual(self, x: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """[..., M] g for features [..., M, K], mask [..., M]; the numpy twin of DispatchNetwork.residual."""
        h = np.maximum(x @ self._encode + self._encode_bias, 0.0)
        masked = h * mask[..., None]
        mean = masked.sum(axis=-2) / np.maximum(mask.sum(axis=-1), 1)[..., None]
        context = np.concatenate((mean, masked.max(axis=-2)), axis=-1).astype(np.float32) @ self._context
        u = np.maximum(h @ self._own + self._own_bias + context[..., None, :], 0.0)
        g: npt.NDArray[np.float32] = u @ self._score + x @ self._skip + np.float32(self._score_bias)
        return g

    def logits(self, observation: Observation) -> FloatArray:
        """[M] beta * w_i * U_i + g_i."""
        rows, caller, mask = observation.rows, observation.caller, observation.mask
        x, utility = network_inputs(rows, observation.prompt, caller, mask)
        logits: FloatArray = self.beta * rows[:, MODEL_COLUMN["weight"]] * utility + self.residual(x, mask)
        return logits

    def distribution(self, observation: Observation) -> FloatArray:
        """[M] softmax of the logits over plausible models."""
        return masked_softmax(self.logits(observation), self.plausible(observation))
