"""API keys: made once, readable by the owner only, found by hash, taken up again when the file changes."""

import hashlib
import os
import stat

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access.keys import KEY_FILE, KeyRing, ensure_key, read_key

SECRET = "fs-0123456789abcdef0123"


def ring(home, *entries, environ=None):
    path = home / KEY_FILE
    path.write_text(yaml.safe_dump({"keys": list(entries)}))
    path.chmod(0o600)
    return KeyRing(path, environ or {})


def bearer(key):
    return f"Bearer {key}".encode()


def test_the_first_run_makes_one_key_that_only_the_owner_reads(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTSERVE_API_KEY", raising=False)
    path = ensure_key(tmp_path)
    key = path.read_text().strip()
    assert ensure_key(tmp_path).read_text().strip() == key == read_key(tmp_path)
    for file in (path, tmp_path / KEY_FILE):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in (tmp_path / KEY_FILE).read_text()
    found = KeyRing(tmp_path / KEY_FILE, {}).find(bearer(key))
    assert found.roles == {"infer", "feedback", "read", "admin"}


def test_the_environment_overrides_the_file(tmp_path):
    keys = ring(tmp_path, {"name": "a", "key": SECRET}, environ={"FASTSERVE_API_KEY": "other-key-0123456789"})
    assert keys.find(bearer(SECRET)) is None
    assert keys.find(bearer("other-key-0123456789")).name == "environment"


def test_a_key_may_be_kept_as_its_hash(tmp_path):
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    keys = ring(tmp_path, {"name": "a", "sha256": digest, "roles": ["feedback"]})
    assert keys.find(bearer(SECRET)).roles == {"feedback"}


@given(st.binary(max_size=100))
def test_nothing_but_the_key_opens(tmp_path_factory, header):
    keys = ring(tmp_path_factory.mktemp("keys"), {"name": "a", "key": SECRET})
    assert (keys.find(header) is None) == (header.strip() != bearer(SECRET))


def test_ids_and_salts_differ_by_key_and_tell_nothing_of_it(tmp_path):
    keys = ring(tmp_path, {"name": "a", "key": SECRET}, {"name": "b", "key": SECRET + "x"})
    a, b = keys.find(bearer(SECRET)), keys.find(bearer(SECRET + "x"))
    assert a.key_id != b.key_id
    assert a.cache_salt != b.cache_salt
    assert hashlib.sha256(SECRET.encode()).hexdigest()[:12] not in (a.key_id, a.cache_salt)


def test_a_changed_file_is_taken_up_and_a_broken_one_is_not(tmp_path, caplog):
    keys = ring(tmp_path, {"name": "a", "key": SECRET})
    path = tmp_path / KEY_FILE
    path.write_text(yaml.safe_dump({"keys": [{"name": "b", "key": "another-key-0123456789"}]}))
    os.utime(path, ns=(1, 1))
    keys.refresh()
    assert keys.find(bearer(SECRET)) is None
    path.write_text("keys: [")
    os.utime(path, ns=(2, 2))
    keys.refresh()
    assert keys.find(bearer("another-key-0123456789")).name == "b"
    assert "unusable" in caplog.text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"keys": []}, "at least 1"),
        ({"keys": [{"name": "a"}]}, "exactly one of 'key' and 'sha256'"),
        ({"keys": [{"name": "a", "key": "short"}]}, "at least 16"),
        ({"keys": [{"name": "a", "key": SECRET, "role": ["infer"]}]}, "did you mean 'roles'"),
        ({"keys": [{"name": "a", "key": SECRET}, {"name": "a", "key": SECRET + "x"}]}, "same name"),
        ({"keys": [{"name": "a", "key": SECRET}, {"name": "b", "key": SECRET}]}, "same key"),
    ],
)
def test_an_unusable_file_stops_the_start(tmp_path, document, message):
    path = tmp_path / KEY_FILE
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    with pytest.raises(ValueError, match=message):
        KeyRing(path, {})


def test_a_file_that_others_may_read_stops_the_start(tmp_path):
    ensure_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(ValueError, match="0600"):
        KeyRing(tmp_path / KEY_FILE, {})


def test_no_file_and_no_key_stops_the_start(tmp_path):
    with pytest.raises(OSError, match=KEY_FILE):
        KeyRing(tmp_path / KEY_FILE, {})
