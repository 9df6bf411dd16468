"""The key file is checked before it is used, and no message repeats what is in it."""

import stat
from pathlib import Path

import pytest
import yaml

from deployments.keys.file import read_key_file, write_secret

TEXT = "fs-0123456789abcdef0123"


def written(folder: Path, document: object, mode: int = 0o600) -> Path:
    path = folder / "keys.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"keys": []}, "at least 1"),
        ({"keys": [{"name": "a"}]}, "exactly one of 'key' and 'sha256'"),
        ({"keys": [{"name": "a", "key": TEXT[:15]}]}, "at least 16"),
        ({"keys": [{"name": "a", "key": TEXT, "role": ["infer"]}]}, "did you mean 'roles'"),
        ({"keys": [{"name": "a", "key": TEXT}, {"name": "a", "key": TEXT + "x"}]}, "same name"),
        ({"keys": [{"name": "a", "key": TEXT}, {"name": "b", "key": TEXT}]}, "same key"),
        (f"keys:\n- name: a\n  key: {TEXT}\n  roles: [", "is not YAML"),
        ("", "keys.yaml"),
    ],
)
def test_an_unusable_file_is_refused_without_naming_a_key(
    tmp_path: Path, document: object, message: str
) -> None:
    path = written(tmp_path, document)
    with pytest.raises(ValueError, match=message) as raised:
        read_key_file(path)
    assert TEXT[:15] not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_its_group_may_read_it_as_kubernetes_mounts_a_secret(tmp_path: Path, mode: int) -> None:
    assert read_key_file(written(tmp_path, {"keys": [{"name": "a", "key": TEXT}]}, mode)).keys[0].name == "a"


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o644, 0o660, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, {"keys": [{"name": "a", "key": TEXT}]}, mode)
    with pytest.raises(ValueError, match=rf"mode {mode:o}: only its owner"):
        read_key_file(path)


def test_a_secret_is_written_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, "one")
    write_secret(path, "two")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
