"""A version of Ray or vLLM outside the declared range is refused in one sentence."""

import pytest

from deployments.bound_versions import PACKAGES, VersionError, bounds, declared, require_version

REQUIRED = ["ray[serve]>=2.60,<2.61", 'vllm<0.33,>=0.32; extra == "gpu"', "click>=8"]


@pytest.mark.parametrize(("name", "version"), [("ray", "2.60.1"), ("vllm", "0.32.0+cpu"), ("click", "1")])
def test_what_is_in_the_range_or_not_bound_passes(name: str, version: str) -> None:
    require_version(name, version, REQUIRED)


@pytest.mark.parametrize(("name", "version"), [("ray", "2.61.0"), ("ray", "2.59.0"), ("vllm", "0.33.0")])
def test_the_sentence_names_the_version_and_the_range(name: str, version: str) -> None:
    with pytest.raises(VersionError, match=rf"{name} {version} is installed.*{name}(<|>=)"):
        require_version(name, version, REQUIRED)


def test_what_is_installed_here_is_in_the_range() -> None:
    import ray

    assert set(bounds(declared())) == set(PACKAGES)
    require_version("ray", ray.__version__)
