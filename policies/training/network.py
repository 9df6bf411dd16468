"""The network g_theta: one residual logit per model, and the value of the pool's state for training.

Shapes: B batch (any leading dims), M models, K features, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.learned.features import FEATURES

RESIDUAL_SCALE = 20.0  # logits of the formula reach tens; g gets there without large weights


class ModelSetNetwork(nn.Module):
    """Scores every model from its own features and the pooled features of the whole set.

    Shared over models, so the output is equivariant to their order and M is free (deep sets, Zaheer
    2017): h_m = relu(W x_m); c = [mean_m h, max_m h]; u_m = relu(A h_m + C c); score_m = v u_m + s x_m.
    Masked models take no part in c.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.encode = nn.Linear(features, hidden)
        self.own = nn.Linear(hidden, hidden)
        self.context = nn.Linear(2 * hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1)
        self.skip = nn.Linear(features, 1, bias=False)

    def forward(self, x_BMK: Tensor, mask_BM: Tensor) -> Tensor:  # noqa: N803 - shapes in names
        """[B, M] scores; entries outside the mask mean nothing."""
        hidden = torch.relu(self.encode(x_BMK))
        present = mask_BM.unsqueeze(-1).to(hidden.dtype)
        masked = hidden * present  # relu's outputs are >= 0, so the maximum ignores masked ones
        mean = masked.sum(dim=-2) / present.sum(dim=-2).clamp(min=1.0)
        context = self.context(torch.cat((mean, masked.amax(dim=-2)), dim=-1))
        mixed = torch.relu(self.own(hidden) + context.unsqueeze(-2))
        score: Tensor = (self.score(mixed) + self.skip(x_BMK)).squeeze(-1)
        return score


class DispatchNetwork(nn.Module):
    """Policy head: residual logits g [B, M], 0 at the start. Value head: V [B], mean over allowed models.

    `keep` [K] switches input features off (0) for ablations; FEATURES gives the order.
    """

    keep: Tensor

    def __init__(self, hidden: int = 64, drop: Sequence[str] = (), seed: int = 0) -> None:
        unknown = sorted(set(drop) - set(FEATURES))
        if unknown:
            raise ValueError(f"Feature '{unknown[0]}' does not exist. Features: {', '.join(FEATURES)}.")
        super().__init__()
        self.hidden = hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = ModelSetNetwork(len(FEATURES), hidden)
            self.value = ModelSetNetwork(len(FEATURES), hidden)
        nn.init.zeros_(self.policy.score.weight)
        nn.init.zeros_(self.policy.score.bias)
        nn.init.zeros_(self.policy.skip.weight)
        self.register_buffer("keep", torch.tensor([0.0 if name in drop else 1.0 for name in FEATURES]))

    def residual(self, x_BMK: Tensor, mask_BM: Tensor) -> Tensor:  # noqa: N803
        """[B, M] g, to be added to the formula's logits."""
        residual: Tensor = RESIDUAL_SCALE * self.policy(x_BMK * self.keep, mask_BM)
        return residual

    def state_value(self, x_BMK: Tensor, mask_BM: Tensor) -> Tensor:  # noqa: N803
        """[B] predicted return, in normalised units (see policies.training.ppo)."""
        per_model = self.value(x_BMK * self.keep, mask_BM)
        present = mask_BM.to(per_model.dtype)
        return (per_model * present).sum(dim=-1) / present.sum(dim=-1).clamp(min=1.0)

    def logits(self, x_BMK: Tensor, base_BM: Tensor, mask_BM: Tensor) -> Tensor:  # noqa: N803
        """[B, M] the formula's logits `base` plus g; -inf outside the mask."""
        return (base_BM + self.residual(x_BMK, mask_BM)).masked_fill(~mask_BM, float("-inf"))
