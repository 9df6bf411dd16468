"""Which keys hold: the environment's, the file's or the first one; an unusable file closes the pool."""

import hashlib
import shutil
from pathlib import Path

import pytest
import yaml

from deployments.keys.watch import KeyWatch

TEXT = "fs-0123456789abcdef0123"
OTHER = "fs-another-key-0123456789"


def write(path: Path, *texts: str, mode: int = 0o600) -> None:
    entries = [{"name": f"k{number}", "key": text} for number, text in enumerate(texts)]
    path.write_text(yaml.safe_dump({"keys": entries}))
    path.chmod(mode)


def watch(folder: Path, environ: dict[str, str] | None = None, *, is_named: bool = False) -> KeyWatch:
    return KeyWatch(folder / "keys.yaml", folder / "key", is_named=is_named, environ=environ or {})


def opens(made: KeyWatch, text: str) -> bool:
    return hashlib.sha256(text.encode()).digest() in made.known.keys and not made.known.problem


def test_the_environment_replaces_the_file(tmp_path: Path) -> None:
    write(tmp_path / "keys.yaml", TEXT)
    made = watch(tmp_path, {"FASTSERVE_API_KEY": OTHER})
    made.look()
    assert opens(made, OTHER)
    assert not opens(made, TEXT)


def test_a_changed_file_holds_at_the_next_look_under_another_revision(tmp_path: Path) -> None:
    write(tmp_path / "keys.yaml", TEXT)
    made = watch(tmp_path)
    made.look()
    before = made.known
    made.look()
    assert made.known is before
    write(tmp_path / "keys.yaml", OTHER)
    made.look()
    assert opens(made, OTHER)
    assert not opens(made, TEXT)
    assert made.known.revision != before.revision


@pytest.mark.parametrize("harm", ["gone", "half", "mode", "folder"])
def test_a_file_that_cannot_be_used_closes_the_pool_at_the_second_look(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "keys.yaml"
    write(path, TEXT)
    made = watch(tmp_path)
    made.look()
    if harm == "mode":
        path.chmod(0o644)
    elif harm == "half":
        path.write_text("keys: [")
    else:
        path.unlink()
        if harm == "folder":
            path.mkdir(0o700)
    made.look()
    assert opens(made, TEXT), "it may be half replaced"
    made.look()
    assert "keys.yaml" in made.known.problem
    assert made.known.keys == {}
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write(path, OTHER)
    made.look()
    assert opens(made, OTHER)


def test_a_file_that_is_bad_from_the_start_lets_nobody_in(tmp_path: Path) -> None:
    write(tmp_path / "keys.yaml", TEXT, mode=0o644)
    made = watch(tmp_path)
    made.first_key = OTHER
    made.look()
    assert "mode 644" in made.known.problem
    assert not made.wants_first_key


def test_the_first_key_is_wanted_only_where_the_store_knows_of_none(tmp_path: Path) -> None:
    made = watch(tmp_path)
    made.look()
    assert (made.known.revision, made.wants_first_key) == ("", False), "the store was not read yet"
    made.first_key = ""
    assert made.wants_first_key
    made.first_key = TEXT
    made.look()
    assert opens(made, TEXT)
    made.leave_first_key()
    assert (tmp_path / "key").read_text().strip() == TEXT == made.propose_first_key()


def test_a_file_replaces_the_first_key_and_its_loss_does_not_bring_it_back(tmp_path: Path) -> None:
    made = watch(tmp_path)
    made.first_key = TEXT
    made.look()
    write(tmp_path / "keys.yaml", OTHER)
    made.look()
    assert not opens(made, TEXT)
    (tmp_path / "keys.yaml").unlink()
    again = watch(tmp_path)
    again.first_key, again.file_was_seen = TEXT, made.file_was_seen  # the next life of the table
    again.look()
    assert "is gone" in again.known.problem
    assert not opens(again, TEXT)


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    made = watch(tmp_path, is_named=True)
    made.first_key = ""
    made.look()
    assert "is gone" in made.known.problem
    assert not made.wants_first_key
