"""Ray and vLLM, whose minor versions tie us: what this distribution declares, against what is installed."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

DISTRIBUTION: Final = "fastserve-dispatch"
PACKAGES: Final = ("ray", "vllm")


class VersionError(RuntimeError):
    """A version that this code was not written for; the message names it and the range."""


def declared() -> list[str]:
    """The requirements of this distribution; none where it is not installed, as in a bare checkout."""
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []


def bounds(required: Iterable[str]) -> dict[str, SpecifierSet]:
    """The range of each package whose minor version ties us."""
    return {one.name: one.specifier for one in map(Requirement, required) if one.name in PACKAGES}


def require_version(name: str, installed: str, required: Iterable[str] | None = None) -> None:
    """Raises VersionError where the installed version is outside the range."""
    wanted = bounds(declared() if required is None else required).get(name)
    if wanted is not None and not wanted.contains(installed, prereleases=True):
        raise VersionError(
            f"{name} {installed} is installed, and this FastServe needs {name}{wanted}: install that version "
            f"on every node."
        )
