"""Keys are made, replaced with an overlap and revoked; the file stays private and every change is noted."""

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from deployments.keys.file import read_key_file, write_secret
from deployments.keys.key import by_digest
from serve_app.access.key_admin import AUDIT_FILE, KeyAdmin
from serve_app.access.keys import KeyRing
from tests.serve_app.fixed_keys import FixedKeys


class Clock:
    def __init__(self) -> None:
        self.now_s = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def path(tmp_path):
    write_secret(tmp_path / "key", "fs-first-key-0123456789")
    return tmp_path / "keys.yaml"


def found(path, secret, clock=None):
    view = FixedKeys(by_digest(read_key_file(path).keys))
    return KeyRing(view, clock or Clock()).find(f"Bearer {secret}".encode())


def admin_of(path):
    return KeyAdmin(path, path.with_name("key"))


def test_a_new_key_works_and_is_kept_as_its_hash_only(path):
    secret = admin_of(path).create("web", ("read",), {"usd_per_day": 2.0})
    key = found(path, secret)
    assert (key.name, key.roles, key.limits.usd_per_day) == ("web", {"read"}, 2.0)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="Key 'web' exists"):
        admin_of(path).create("web")


def test_a_key_expires(path):
    clock = Clock()
    secret = admin_of(path).create("web", expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert found(path, secret, clock) is not None
    clock.now_s += 3_601
    assert found(path, secret, clock) is None


def test_a_replaced_key_works_for_the_overlap_and_stays_the_same_key(path):
    admin, clock = admin_of(path), Clock()
    texts = [admin.create("web")]
    first = found(path, texts[0])
    for _ in range(2):
        texts.append(admin.rotate("web", 60.0))
        assert {found(path, text, clock).key_id for text in texts[-2:]} == {first.key_id}
    assert found(path, texts[0], clock) is None
    clock.now_s += 61
    assert found(path, texts[1], clock) is None
    assert found(path, texts[2], clock).key_id == first.key_id
    assert [entry.name for entry in read_key_file(path).keys] == ["default", "web"]


def test_a_revoked_key_is_gone_and_the_last_one_stays(path):
    admin = admin_of(path)
    secret = admin.create("web")
    admin.revoke("web")
    assert found(path, secret) is None
    with pytest.raises(ValueError, match="'default' is the last one"):
        admin.revoke("default")
    with pytest.raises(ValueError, match=r"no key 'web'\. Known: default"):
        admin.rotate("web", 1.0)


def test_every_change_is_noted_and_no_key_is(path):
    admin = admin_of(path)
    secrets = [admin.create("web"), admin.rotate("web", 1.0)]
    admin.revoke("web")
    audit = path.with_name(AUDIT_FILE)
    text = audit.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["action"], line["key"]) for line in lines] == [
        ("create", "web"),
        ("rotate", "web"),
        ("revoke", "web"),
    ]
    assert not any(secret in text for secret in secrets)
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600


def test_a_new_file_begins_with_the_first_key_and_without_it_once_that_is_revoked(path):
    admin = admin_of(path)
    assert [entry.name for entry in admin.entries()] == ["default"]
    admin.create("web")
    assert found(path, "fs-first-key-0123456789").roles == {"infer", "feedback", "read", "admin"}
    admin.revoke("default")
    assert not path.with_name("key").exists()
    path.unlink()
    assert admin.entries() == ()
