"""Fits the quality model: gradient descent in torch over hashed prompt features."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from policies.quality_data import QualityData
from policies.quality_model import F32, QualityManifest, QualityModel


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """How to fit; the defaults are what the benchmarks use."""

    buckets: int = 1 << 16
    dimensions: int = 32
    hidden: int = 32
    epochs: int = 12
    batch: int = 128
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    half_life_s: float = float("inf")
    seed: int = 0


def fit(
    data: QualityData, settings: QualitySettings | None = None, now_s: float | None = None
) -> QualityModel:
    """A quality model from scored answers. Raises ValueError where there are none."""
    settings = settings or QualitySettings()
    if not data.features or not data.models:
        raise ValueError("quality data: no scored answers, at least one is needed.")
    now_s = time.time() if now_s is None else now_s
    torch.manual_seed(settings.seed)
    network = _Network(settings, len(data.models))
    _train(network, data, settings, now_s)
    known = data.weights > 0
    arrays = network.arrays()
    count = np.maximum(known.sum(0), 1)
    arrays["std"] = (0.5 / np.sqrt(count)).astype(np.float32)
    arrays["slope"] = np.ones(len(data.models), np.float32)
    arrays["offset"] = np.zeros(len(data.models), np.float32)
    manifest = QualityManifest(data.models, settings.buckets, now_s, len(data.features), int(known.sum()))
    return QualityModel(manifest, arrays)


def update(
    model: QualityModel,
    data: QualityData,
    settings: QualitySettings | None = None,
    now_s: float | None = None,
) -> QualityModel:
    """The model brought up to date with all present data (evaluations and feedback)."""
    return fit(data, settings, now_s)


class _Network(torch.nn.Module):
    def __init__(self, settings: QualitySettings, models: int) -> None:
        super().__init__()
        self.bag = torch.nn.EmbeddingBag(settings.buckets, settings.dimensions, mode="sum")
        torch.nn.init.normal_(self.bag.weight, std=0.1)
        self.input = torch.nn.Linear(settings.dimensions, settings.hidden)
        self.output = torch.nn.Linear(settings.hidden, models)

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        bag = torch.nn.functional.normalize(self.bag(ids, offsets, per_sample_weights=values), eps=1e-6)
        logits: torch.Tensor = self.output(torch.tanh(self.input(bag)))
        return logits

    def arrays(self) -> dict[str, F32]:
        return {
            "table": self.bag.weight.detach().numpy().copy(),
            "input": self.input.weight.detach().numpy().T.copy(),
            "input_bias": self.input.bias.detach().numpy().copy(),
            "models": self.output.weight.detach().numpy().T.copy(),
            "model_bias": self.output.bias.detach().numpy().copy(),
        }


def _train(network: _Network, data: QualityData, settings: QualitySettings, now_s: float) -> None:
    generator = np.random.default_rng(settings.seed)
    weights = torch.tensor(data.decayed_weights(now_s, settings.half_life_s), dtype=torch.float32)
    scores = torch.tensor(np.nan_to_num(data.scores), dtype=torch.float32)
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    for _ in range(settings.epochs):
        order = generator.permutation(len(data.features))
        for start in range(0, len(order), settings.batch):
            rows = order[start : start + settings.batch]
            picked = [data.features[row] for row in rows]
            ids = torch.from_numpy(np.concatenate([f.ids for f in picked]) & (settings.buckets - 1))
            values = torch.from_numpy(np.concatenate([f.values for f in picked]))
            offsets = torch.tensor(np.cumsum([0] + [len(f.ids) for f in picked[:-1]]), dtype=torch.int32)
            logits = network(ids, offsets, values)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, scores[rows], weights[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
