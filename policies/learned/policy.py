"""The learned policy at serving: the priced rule plus the network's residual, without torch."""

from typing import Self

import numpy as np

from policies.arrays import F32, F64, Bools
from policies.formula import formula_utility, masked_softmax
from policies.learned.checkpoint import CheckpointError, Manifest, Tensors, dump, parse
from policies.learned.features import request_inputs
from policies.learned.kernel import learned_logits, residual
from policies.observation import Observation
from policies.policy import FormulaPolicy, Policy

_NAMES = (
    "encode.weight", "encode.bias", "own.weight", "own.bias",
    "context.weight", "score.weight", "score.bias", "skip.weight",
)  # fmt: skip
RESIDUAL_SCALE = 20.0  # as in policies.training.network; a test holds the two equal


class LearnedPolicy(Policy):
    """pi = softmax(beta * w_i * U_i + g_theta(observation)_i); g = 0 is exactly the priced rule."""

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
        keep = tensors["keep"]
        score = np.concatenate([w["score.weight"][0], (w["skip.weight"] * keep)[0], w["score.bias"]])
        self._layers = [
            np.ascontiguousarray(layer, dtype=np.float32)
            for layer in (
                np.vstack([(w["encode.weight"] * keep).T, w["encode.bias"]]),
                np.vstack([w["own.weight"].T, w["own.bias"]]),
                w["context.weight"].T,
                RESIDUAL_SCALE * score[None],
            )
        ]

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

    def residual(self, x: F32, mask: Bools) -> F32:
        """[M] g for features [M, K], mask [M]; the twin of DispatchNetwork.residual."""
        return residual(x, mask, *self._layers)

    def residuals(self, observation: Observation) -> F32:
        """[M] g_i: what this policy adds to the rule that it stands on."""
        o = observation
        return self.residual(request_inputs(o.rows, o.prompt, o.caller, o.mask)[0], o.mask)

    def logits(self, observation: Observation) -> F64:
        """[M] beta * w_i * U_i + g_i; -inf where w_i is 0."""
        o = observation
        x, utility = request_inputs(o.rows, o.prompt, o.caller, o.mask)
        if self.manifest.base == FormulaPolicy.name:
            utility = formula_utility(o.rows, o.caller, o.mask)
        return learned_logits(x, utility, o.rows, o.mask, self.beta, *self._layers)

    def distribution(self, observation: Observation) -> F64:
        """[M] softmax of the logits over plausible models."""
        return masked_softmax(self.logits(observation), observation.mask)
