import math

import pytest
import torch

from deployments.suites.item import Item as SuiteItem
from scripts.models.card import BASE, card
from scripts.models.evaluate import Result, accuracy, paired_p
from scripts.models.training import IGNORED, Batch, TimedSchedule, answer_loss, collate


def small_llama() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model: torch.nn.Module = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    return model


def test_only_the_answers_tokens_are_to_be_predicted() -> None:
    batch = collate([([5, 6, 7, 8, 2], 3), ([5, 9, 2], 2)])
    assert batch.ids.tolist() == [[5, 6, 7, 8], [5, 9, 0, 0]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 8, 2], [IGNORED, 2, IGNORED, IGNORED]]
    torch.testing.assert_close(batch.weights[0], torch.tensor([0.0, 0.0, 2**-0.5, 2**-0.5]))


def test_padding_on_the_right_does_not_change_the_loss() -> None:
    model = small_llama()
    batch = collate([([5, 6, 7, 8, 2], 3), ([5, 9, 2], 2)])
    other = batch.ids.clone()
    other[1, 2:] = 33
    changed = Batch(other, batch.labels, batch.weights)
    torch.testing.assert_close(answer_loss(model, batch), answer_loss(model, changed))


def test_an_untrained_model_loses_about_log_vocabulary() -> None:
    loss = answer_loss(small_llama(), collate([([5, 6, 7, 8, 2], 3)])).item()
    assert loss == pytest.approx(math.log(50), rel=0.15)


def test_the_rate_rises_then_falls_to_zero_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 105.0, 110.0, 155.0, 200.0, 900.0))
    monkeypatch.setattr("scripts.models.training.time.monotonic", lambda: next(clock))
    schedule = TimedSchedule(budget_s=100.0, warm_up=0.1)
    factors = [schedule.factor() for _ in range(5)]
    assert factors == pytest.approx([0.5, 1.0, 0.5, 0.0, 0.0], abs=1e-9)


def suite_item(name: str, task: str) -> SuiteItem:
    return SuiteItem(name, task, ({"role": "user", "content": "?"},), "a", "exact", 8)


def test_accuracy_is_the_mean_by_task_and_the_paired_test_looks_at_differences_only() -> None:
    items = [suite_item(str(place), "ab"[place % 2]) for place in range(20)]
    right = Result("right", {item.id: 1.0 for item in items}, {}, 1.0)
    half = Result("half", {item.id: float(item.task == "a") for item in items}, {}, 1.0)
    assert accuracy(half, items, "task") == {"a": 1.0, "b": 0.0}
    ids = [item.id for item in items]
    assert paired_p(right, half, ids) == pytest.approx(2 * 0.5**10)
    assert paired_p(right, right, ids) == 1.0


def test_a_card_states_data_accuracy_beside_the_base_speed_seed_and_command() -> None:
    facts = {"items": 1234, "parameters": 99, "steps": 7, "seed": 3, "loss": 0.5, "minutes": 2.0}
    scores = {"by_profile": {"p": 0.75}, "by_task": {"t": 0.5}, "tokens_per_cpu_s": 88.0}
    base = {"by_profile": {"p": 0.25}, "by_task": {"t": 0.125}, "tokens_per_cpu_s": 11.0}
    text = card("tiny", facts, {"tiny": scores, BASE: base})
    for stated in (
        "1,234 items",
        "seed 3",
        "train_tiny --minutes 2`",
        "| p | 0.75 | 0.25 |",
        "88 tokens",
        "11)",
    ):
        assert stated in text
