"""The trained part of the quality model in torch: a small ensemble of networks, all in one batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from policies.arrays import F32


@dataclass(frozen=True, slots=True)
class Training:
    """How the networks are trained by AdamW under a one-cycle learning rate."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    dropout: float
    seed: int


class QualityNetwork(torch.nn.Module):
    """K networks x -> relu(x W1 + b1) W2 + b2 of M logits; column m of W2 is the embedding of model m.

    Shapes: K members, B prompts, I inputs, H hidden units, M models.
    """

    def __init__(self, members: int, inputs: int, hidden: int, bias: F32, seed: int) -> None:
        super().__init__()
        models = len(bias)
        torch.manual_seed(seed)
        self.input = torch.nn.Parameter(torch.randn(members, inputs, hidden) / inputs**0.5)
        self.input_bias = torch.nn.Parameter(torch.zeros(members, 1, hidden))
        self.models = torch.nn.Parameter(torch.randn(members, hidden, models) * 0.1 / hidden**0.5)
        self.model_bias = torch.nn.Parameter(torch.from_numpy(bias).repeat(members, 1, 1))

    def forward(self, inputs: torch.Tensor, drop: float = 0.0) -> torch.Tensor:
        """[K, B, M] logits of inputs [K, B, I] or [B, I]; `drop` of the hidden units are left out."""
        hidden = torch.relu(dropout(inputs, drop / 3.0) @ self.input + self.input_bias)
        return dropout(hidden, drop) @ self.models + self.model_bias

    def arrays(self) -> dict[str, F32]:
        """The parameters by name."""
        return {name: parameter.detach().numpy().copy() for name, parameter in self.named_parameters()}


def train(network: QualityNetwork, inputs: F32, scores: F32, weights: F32, how: Training) -> None:
    """Fit in place: inputs [N, I], scores [N, M], weights [K, N, M], 0 where a member must not look."""
    torch.manual_seed(how.seed)
    members, count = weights.shape[:2]
    x, y, w = (torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in (inputs, scores, weights))
    member = torch.arange(members)[:, None]
    steps = how.epochs * -(-count // how.batch)
    decayed = [network.input, network.models]
    plain = [network.input_bias, network.model_bias]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": how.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        how.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.learning_rate, total_steps=steps + 1)
    for _ in range(how.epochs):
        order = torch.stack([torch.randperm(count) for _ in range(members)])
        for start in range(0, count, how.batch):
            rows = order[:, start : start + how.batch]
            logits = network(x[rows], how.dropout)
            losses = binary_cross_entropy_with_logits(
                logits, y[rows], weight=w[member, rows], reduction="none"
            )
            optimiser.zero_grad()
            losses.mean(dim=(1, 2)).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def predict(network: QualityNetwork, inputs: F32) -> F32:
    """[K, N, M] logits of inputs [N, I]."""
    with torch.no_grad():
        logits: F32 = network(torch.from_numpy(inputs)).numpy()
    return logits
