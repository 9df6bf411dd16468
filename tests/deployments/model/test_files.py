import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deployments.model import files
from deployments.model.files import Progress, Recipe, WeightsError, merge_adapter, prepare_source


class Toy:
    """A recipe that counts its builds and can be made to fail."""

    def __init__(self) -> None:
        self.builds = 0
        self.version = "1"
        self.fails = False

    def recipe(self) -> Recipe:
        return Recipe(lambda: self.version, self.build)

    def build(self, built: Path, home: Path, progress: Progress) -> None:
        (built / "model.bin").write_text(self.version)
        if self.fails:
            raise RuntimeError("disk full")
        self.builds += 1


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    monkeypatch.setitem(files.RECIPES, "toy", made.recipe())
    return made


def silent(message: str) -> None:
    pass


def write_adapter(folder: Path, names: list[str], rank: int, alpha: int) -> dict[str, torch.Tensor]:
    tensors = {}
    for name in names:
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(rank, 6)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(4, rank)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": alpha}))
    return tensors


def test_merged_weight_is_the_base_plus_the_scaled_product(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = {"model.q.weight": torch.randn(4, 6), "model.k.weight": torch.randn(4, 6)}
    save_file(base, tmp_path / "base.safetensors")
    lora = write_adapter(tmp_path / "adapter", ["model.q"], rank=2, alpha=6)
    merge_adapter(tmp_path / "base.safetensors", tmp_path / "adapter", tmp_path / "merged.safetensors")
    merged = load_file(tmp_path / "merged.safetensors")
    a, b = (lora[f"base_model.model.model.q.lora_{side}.weight"] for side in "AB")
    x = torch.randn(3, 6)
    torch.testing.assert_close(
        x @ merged["model.q.weight"].T, x @ base["model.q.weight"].T + 3 * (x @ a.T) @ b.T
    )
    assert torch.equal(merged["model.k.weight"], base["model.k.weight"])


def test_adapter_for_a_weight_that_the_base_lacks_is_an_error(tmp_path: Path) -> None:
    save_file({"model.k.weight": torch.zeros(4, 6)}, tmp_path / "base.safetensors")
    write_adapter(tmp_path / "adapter", ["model.q"], rank=2, alpha=2)
    with pytest.raises(WeightsError, match=r"model\.q\.weight"):
        merge_adapter(tmp_path / "base.safetensors", tmp_path / "adapter", tmp_path / "merged.safetensors")


def test_second_preparation_does_nothing_and_a_new_version_builds_again(tmp_path: Path, toy: Toy) -> None:
    target = prepare_source("builtin:toy", tmp_path, silent)
    assert target == tmp_path / "models" / "toy"
    prepare_source("builtin:toy", tmp_path, silent)
    assert toy.builds == 1
    toy.version = "2"
    prepare_source("builtin:toy", tmp_path, silent)
    assert toy.builds == 2
    assert (target / "model.bin").read_text() == "2"


def test_failed_preparation_leaves_the_old_model_and_no_rubbish(tmp_path: Path, toy: Toy) -> None:
    target = prepare_source("builtin:toy", tmp_path, silent)
    toy.version, toy.fails = "2", True
    with pytest.raises(RuntimeError, match="disk full"):
        prepare_source("builtin:toy", tmp_path, silent)
    assert (target / "model.bin").read_text() == "1"
    assert {path.name for path in target.parent.iterdir()} == {"toy", ".toy.lock"}


def test_concurrent_preparations_build_once(tmp_path: Path, toy: Toy) -> None:
    prepare: Callable[[], Path] = lambda: prepare_source("builtin:toy", tmp_path, silent)  # noqa: E731
    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert toy.builds == 1


def test_unknown_builtin_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"'builtin:huge' is not built in.*'builtin:tiny'"):
        prepare_source("builtin:huge", tmp_path, silent)


def test_a_folder_is_its_own_source_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert prepare_source(str(tmp_path), tmp_path, silent) == tmp_path
    with pytest.raises(WeightsError, match="neither a folder nor a hub name"):
        prepare_source(str(tmp_path / "absent"), tmp_path, silent)


def test_a_hub_model_that_cannot_be_fetched_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="'nobody/nothing' cannot be fetched"):
        prepare_source("nobody/nothing", tmp_path, silent)


def test_stored_tiny_model_loads_and_answers_an_intent(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = prepare_source("builtin:tiny", tmp_path, silent)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    question = (
        "Is this review positive, negative or neutral? Answer with one word.\nI love this lamp, it is great."
    )
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(chat, return_tensors="pt", add_special_tokens=False)["input_ids"]
    answer = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "positive"
    assert 2e6 < sum(weight.numel() for weight in model.parameters()) < 5e6
