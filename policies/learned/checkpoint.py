"""Checkpoints of a policy: safetensors plus a JSON manifest, in one file, loaded without pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from policies.learned.features import FEATURES
from policies.observation import OBSERVATION_VERSION

FORMAT = "fastserve-policy-1"
BASES = ("priced", "formula")  # what a residual may stand on; new ones stand on the first
Tensors = Mapping[str, npt.NDArray[np.float32]]


class CheckpointError(ValueError):
    """A checkpoint that must not be used: damaged, stale or not finite."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is. `hashes` are SHA-256 of each tensor; `data_range` says what it was trained on."""

    revision: str
    observation_version: int
    features: tuple[str, ...]
    beta: float
    hidden: int
    base: str = "formula"  # what the residual stands on; files of before the priced rule say nothing
    data_range: Mapping[str, float] = field(default_factory=dict)  # e.g. first and last record, decisions
    hashes: Mapping[str, str] = field(default_factory=dict)
    format: str = FORMAT


def _hash(tensor: npt.NDArray[np.float32]) -> str:
    head = f"{tensor.dtype.str}{tensor.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(tensor).tobytes()).hexdigest()


def new_manifest(tensors: Tensors, beta: float, hidden: int, data_range: Mapping[str, float]) -> Manifest:
    """A manifest for `tensors`; the revision is the hash of their hashes, the features and beta."""
    hashes = {name: _hash(tensor) for name, tensor in sorted(tensors.items())}
    identity = json.dumps([hashes, FEATURES, beta, OBSERVATION_VERSION, BASES[0]], sort_keys=True)
    return Manifest(
        revision=hashlib.sha256(identity.encode()).hexdigest()[:12],
        observation_version=OBSERVATION_VERSION,
        features=FEATURES,
        beta=beta,
        hidden=hidden,
        base=BASES[0],
        data_range=dict(data_range),
        hashes=hashes,
    )


def dump(tensors: Tensors, manifest: Manifest) -> bytes:
    """One safetensors file, the manifest in its metadata. Raises CheckpointError on non-finite weights."""
    _require_finite(tensors)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return save(contiguous, metadata={"manifest": json.dumps(asdict(manifest), sort_keys=True)})


def parse(data: bytes) -> tuple[dict[str, npt.NDArray[np.float32]], Manifest]:
    """Tensors and manifest. Raises CheckpointError when damaged, altered, stale or not finite."""
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        content = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["manifest"])
        manifest = Manifest(**{**content, "features": tuple(content["features"])})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"Not a policy checkpoint: {error}") from error
    _check(tensors, manifest)
    return tensors, manifest


def _check(tensors: Tensors, manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise CheckpointError(f"Format '{manifest.format}' of the checkpoint is not '{FORMAT}'.")
    if manifest.observation_version != OBSERVATION_VERSION or manifest.features != FEATURES:
        raise CheckpointError(
            f"Checkpoint '{manifest.revision}' was trained on observation version "
            f"{manifest.observation_version} with {len(manifest.features)} features; this code has "
            f"{OBSERVATION_VERSION} with {len(FEATURES)}: train again."
        )
    if manifest.base not in BASES:
        raise CheckpointError(
            f"Checkpoint '{manifest.revision}' stands on '{manifest.base}', must stand on one of {BASES}."
        )
    if {name: _hash(tensor) for name, tensor in tensors.items()} != dict(manifest.hashes):
        raise CheckpointError(
            f"Checkpoint '{manifest.revision}': tensors do not match the manifest's hashes."
        )
    _require_finite(tensors)


def _require_finite(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"Tensor '{name}' of the checkpoint is not finite.")
