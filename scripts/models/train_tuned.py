"""Adapts SmolLM2-135M-Instruct with LoRA on generated items: `python -m scripts.models.train_tuned`."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from deployments.model.files import prepare_source
from scripts.models.data import training_items
from scripts.models.train_tiny import CHAT_TEMPLATE
from scripts.models.training import TimedSchedule, answer_loss, batches

SEED = 11
RANK = 16
FIRST_LAYER = 12
LAYERS = 30
TOKENS_PER_BATCH = 640
CHINESE_SHARE = 0.15
LR = 1e-3
CHECKPOINT_S = 240.0


def load(base: Path) -> tuple[Any, Any]:
    """SmolLM2 with a fresh adapter on its upper layers, and its tokenizer with the shorter chat template."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="eager")
    config = LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        layers_to_transform=list(range(FIRST_LAYER, LAYERS)),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config), tokenizer


def train(minutes: float, base: Path, output: Path) -> None:
    torch.manual_seed(SEED)
    model, tokenizer = load(base)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LR, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = TimedSchedule(minutes * 60)
    seen, average, saved = 0, 0.0, time.monotonic()
    bar = tqdm(
        batches(training_items(SEED, CHINESE_SHARE), tokenizer, TOKENS_PER_BATCH),
        desc="tuned",
        mininterval=10,
    )
    for step, batch in enumerate(bar):
        if schedule.share_done >= 1.0:
            break
        loss = answer_loss(model.get_base_model(), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = LR * schedule.factor()
        optimizer.step()
        optimizer.zero_grad()
        seen += len(batch.ids)
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}", items=seen, done=f"{schedule.share_done:.0%}")
        if time.monotonic() - saved > CHECKPOINT_S:
            save(model, output, {"items": seen, "steps": step, "loss": average, "minutes": minutes})
            saved = time.monotonic()
    save(model, output, {"items": seen, "steps": step, "loss": average, "minutes": minutes})


def save(model: Any, output: Path, facts: dict[str, Any]) -> None:
    """Write the adapter (float16, PEFT's layout), the chat template and this training's facts."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    output.mkdir(parents=True, exist_ok=True)
    state = {name: weight.half().contiguous() for name, weight in get_peft_model_state_dict(model).items()}
    save_file(state, output / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "task_type": "CAUSAL_LM"}
    (output / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (output / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    parameters = sum(weight.numel() for weight in state.values())
    facts = {"seed": SEED, "parameters": parameters, "layers": [FIRST_LAYER, LAYERS]} | facts
    (output / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=65.0,
        help="wall-clock budget",
    )
    parser.add_argument("--output", type=Path, default=Path("models/smollm2-tuned"))
    parser.add_argument(
        "--home", type=Path, default=Path(os.environ.get("FASTSERVE_HOME", "~/.fastserve")).expanduser()
    )
    arguments = parser.parse_args()
    train(arguments.minutes, prepare_source("builtin:smollm2-135m", arguments.home), arguments.output)


if __name__ == "__main__":
    main()
