"""What both trainings share: batches of like length, a prompt-masked loss, a schedule by wall-clock."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scripts.models.item import Item

IGNORED = -100
POOL_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded token ids and labels; a causal model needs no mask for padding on the right.

    Shapes: `ids` [B, T], `labels` [B, T] (the id to predict at each place, `IGNORED` outside the answer),
    `weights` [B, T]: 1 / sqrt(answer length), so that long answers do not drown the short ones.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor


def encode(item: Item, tokenizer: Any) -> tuple[list[int], int]:
    """The token ids of prompt and answer, and where the answer starts."""
    message = [{"role": "user", "content": item.prompt}]
    chat = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    prompt: list[int] = tokenizer.encode(chat, add_special_tokens=False)
    answer: list[int] = tokenizer.encode(item.target, add_special_tokens=False)
    return [*prompt, *answer, tokenizer.eos_token_id], len(prompt)


def collate(encoded: list[tuple[list[int], int]]) -> Batch:
    longest = max(len(ids) for ids, _ in encoded) - 1
    ids_bt = torch.zeros(len(encoded), longest, dtype=torch.long)
    labels_bt = torch.full((len(encoded), longest), IGNORED)
    weights_bt = torch.zeros(len(encoded), longest)
    for row, (ids, start) in enumerate(encoded):
        ids_bt[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        labels_bt[row, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
        weights_bt[row, start - 1 : len(ids) - 1] = (len(ids) - start) ** -0.5
    return Batch(ids_bt, labels_bt, weights_bt)


def batches(items: Iterator[Item], tokenizer: Any, tokens_per_batch: int) -> Iterator[Batch]:
    """Endless batches of about `tokens_per_batch` tokens, each of items of like length."""
    while True:
        pool = [encode(item, tokenizer) for item in islice(items, POOL_BATCHES * tokens_per_batch // 64)]
        pool.sort(key=lambda pair: len(pair[0]))
        groups: list[list[tuple[list[int], int]]] = [[]]
        for pair in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(pair[0]) > tokens_per_batch:
                groups.append([])
            groups[-1].append(pair)
        for place in torch.randperm(len(groups)).tolist():
            yield collate(groups[place])


def answer_loss(model: Any, batch: Batch) -> Tensor:
    """The weighted cross-entropy of the answers' tokens; the head runs only where there is one to predict."""
    hidden_btd = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    answered = batch.labels != IGNORED
    logits = model.lm_head(hidden_btd[answered]).float()
    losses = functional.cross_entropy(logits, batch.labels[answered], reduction="none")
    weights = batch.weights[answered]
    return (losses * weights).sum() / weights.sum()


class TimedSchedule:
    """Learning-rate factor by wall-clock: a linear rise over `warm_up` of the budget, then a cosine to 0.

    Time, not steps: a shared machine's speed is not known beforehand, and the rate must reach 0 in any case.
    """

    def __init__(self, budget_s: float, warm_up: float = 0.03) -> None:
        self._started = time.monotonic()
        self._budget_s = budget_s
        self._warm_up = warm_up

    @property
    def share_done(self) -> float:
        return min(1.0, (time.monotonic() - self._started) / self._budget_s)

    def factor(self) -> float:
        done = self.share_done
        if done < self._warm_up:
            return max(0.02, done / self._warm_up)
        return 0.5 * (1 + math.cos(math.pi * (done - self._warm_up) / (1 - self._warm_up)))
