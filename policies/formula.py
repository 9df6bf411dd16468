"""The formula as a policy: softmax(beta * w_i * U_i). Always loaded; every fallback ends here."""

from policies.formula_kernel import formula_logits, masked_softmax
from policies.observation import FloatArray, Observation
from policies.policy import Policy
from policies.utility import DEFAULT_BETA


class FormulaPolicy(Policy):
    """pi = softmax(beta * w_i * U_i) over the allowed models; w_i = 0 takes a model out."""

    name = "formula"

    def __init__(self, beta: float = DEFAULT_BETA) -> None:
        if not beta > 0.0:
            raise ValueError(f"beta: {beta}, must be above 0.")
        self.beta = beta

    def logits(self, observation: Observation) -> FloatArray:
        """[M] beta * w_i * U_i; -inf where w_i is 0."""
        return formula_logits(observation.rows, observation.caller, observation.mask, self.beta)

    def distribution(self, observation: Observation) -> FloatArray:
        """[M] softmax of the logits over plausible models."""
        return masked_softmax(self.logits(observation), observation.mask)
