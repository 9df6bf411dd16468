"""Sealed records open with their key and for their table only, and their length tells little."""

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.table.store.seal import KEY_BYTES, LEAST_BYTES, Sealer, SealError, ensure_keys, read_keys

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES


@given(st.binary(max_size=5000))
def test_what_is_sealed_opens_again_and_stands_nowhere(data: bytes) -> None:
    sealed = Sealer([NEW]).seal(data, "decisions")
    assert Sealer([NEW]).open(sealed, "decisions") == data
    assert len(data) < 8 or data not in sealed


def test_the_same_record_never_looks_the_same_twice() -> None:
    sealer = Sealer([NEW])
    assert sealer.seal(b"same", "decisions") != sealer.seal(b"same", "decisions")


def test_lengths_are_powers_of_two() -> None:
    sealer = Sealer([NEW])
    lengths = {len(sealer.seal(bytes(size), "decisions")) for size in range(0, 4090, 7)}
    assert len(lengths) == 4
    assert min(lengths) > LEAST_BYTES


def test_an_older_key_opens_and_the_newest_seals() -> None:
    sealed = Sealer([OLD]).seal(b"data", "decisions")
    rotated = Sealer([NEW, OLD])
    assert rotated.open(sealed, "decisions") == b"data"
    with pytest.raises(SealError):
        Sealer([NEW]).open(sealed, "decisions")
    assert Sealer([NEW]).open(rotated.seal(b"data", "decisions"), "decisions") == b"data"


def test_without_its_key_a_record_is_lost() -> None:
    with pytest.raises(SealError, match="'decisions' was sealed with a key that is not"):
        Sealer([NEW]).open(Sealer([OLD]).seal(b"data", "decisions"), "decisions")


@pytest.mark.parametrize("at", [5, 20, -1])
def test_a_changed_record_is_refused(at: int) -> None:
    sealed = bytearray(Sealer([NEW]).seal(b"data", "decisions"))
    sealed[at] ^= 1
    with pytest.raises(SealError, match="changed after it was sealed"):
        Sealer([NEW]).open(bytes(sealed), "decisions")


def test_a_record_does_not_open_as_one_of_another_table() -> None:
    with pytest.raises(SealError):
        Sealer([NEW]).open(Sealer([NEW]).seal(b"data", "outcomes"), "decisions")


def test_records_from_before_there_were_keys_are_read_as_they_are() -> None:
    assert Sealer([NEW]).open(b"\x93\x01\x02\x03", "decisions") == b"\x93\x01\x02\x03"


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    first = ensure_keys(path)
    assert ensure_keys(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first[0]) == KEY_BYTES


def test_a_secret_that_its_group_may_read_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    keys = ensure_keys(path)
    path.chmod(0o440)
    assert read_keys(path) == keys


@pytest.mark.parametrize("mode", [0o604, 0o622, 0o660, 0o601])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "store.key"
    ensure_keys(path)
    path.chmod(mode)
    with pytest.raises(SealError, match=f"mode {mode:o}"):
        read_keys(path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "holds no key"),
        ("# only a comment\n", "holds no key"),
        ("not base64!\n", "line 1: not base64"),
        (base64.b64encode(bytes(16)).decode() + "\n", "line 1: 16 bytes"),
    ],
)
def test_a_file_without_a_usable_key_is_named(tmp_path: Path, text: str, rule: str) -> None:
    path = tmp_path / "store.key"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    with pytest.raises(SealError, match=rule):
        read_keys(path)
