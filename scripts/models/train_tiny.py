"""Trains the tiny Llama from scratch on generated items: `python -m scripts.models.train_tiny`."""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scripts.models.data import training_items
from scripts.models.training import TimedSchedule, answer_loss, batches

SEED = 7
VOCABULARY = 3_072
TOKENIZER_ITEMS = 40_000
TOKENS_PER_BATCH = 2_048
MUON_LR = 0.006
ADAM_LR = 3e-3
CHECKPOINT_S = 180.0
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def make_tokenizer() -> Any:
    """A byte-level BPE of the training items; digits and Chinese characters stay single, to copy well."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex("[一-鿿，。：；！？、（）“”]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _texts() -> Iterator[str]:
    for item in islice(training_items(SEED), TOKENIZER_ITEMS):
        yield f"user\n{item.prompt}\nassistant\n{item.target}"


def make_model(tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2_048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # SDPA's backward pass is slow on CPU for such short sequences
    return model


class MasterWeights:
    """Float32 weights for the optimizers, beside the bfloat16 model that does the arithmetic faster.

    Muon (Jordan et al., 2024) takes the matrices inside the layers, AdamW the embedding and the norms.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._masters = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        model.to(torch.bfloat16)
        matrices = [
            weight for name, weight in self._masters.items() if weight.ndim == 2 and "embed" not in name
        ]
        others = [weight for name, weight in self._masters.items() if weight.ndim != 2 or "embed" in name]
        self._optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), MUON_LR),
            (torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0), ADAM_LR),
        ]

    def step(self, factor: float) -> None:
        """Step with the model's gradients, clipped to norm 1, at `factor` of the peak rates."""
        for name, weight in self._model.named_parameters():
            self._masters[name].grad = weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(self._masters.values(), 1.0)
        for optimizer, peak in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                weight.copy_(self._masters[name])


def train(minutes: float, output: Path) -> None:
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    masters = MasterWeights(model)
    schedule = TimedSchedule(minutes * 60)
    seen, average, saved = 0, 0.0, time.monotonic()
    bar = tqdm(
        batches(training_items(SEED, short_only=True), tokenizer, TOKENS_PER_BATCH),
        desc="tiny",
        mininterval=5,
    )
    for step, batch in enumerate(bar):
        if schedule.share_done >= 1.0:
            break
        loss = answer_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        masters.step(schedule.factor())
        seen += len(batch.ids)
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}", items=seen, done=f"{schedule.share_done:.0%}")
        if time.monotonic() - saved > CHECKPOINT_S:
            save(
                model, tokenizer, output, {"items": seen, "steps": step, "loss": average, "minutes": minutes}
            )
            saved = time.monotonic()
    save(model, tokenizer, output, {"items": seen, "steps": step, "loss": average, "minutes": minutes})


def save(model: Any, tokenizer: Any, output: Path, facts: dict[str, Any]) -> None:
    """Write model (bfloat16), tokenizer and the facts of this training into `output`."""
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    parameters = sum(weight.numel() for weight in model.parameters())
    (output / "training.json").write_text(
        json.dumps({"seed": SEED, "parameters": parameters} | facts, indent=2) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=35.0,
        help="wall-clock budget; the learning rate falls to 0 at its end",
    )
    parser.add_argument("--output", type=Path, default=Path("models/tiny"))
    arguments = parser.parse_args()
    train(arguments.minutes, arguments.output)


if __name__ == "__main__":
    main()
