"""Keys are made, replaced with an overlap and revoked; the file stays private and every change is noted."""

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from serve_app.access.key_admin import AUDIT_FILE, KeyAdmin
from serve_app.access.keys import KEY_FILE, KeyRing, ensure_key


class Clock:
    def __init__(self) -> None:
        self.now_s = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTSERVE_API_KEY", raising=False)
    ensure_key(tmp_path)
    return tmp_path / KEY_FILE


def found(path, secret, clock=None):
    return KeyRing(path, {}, clock or Clock()).find(f"Bearer {secret}".encode())


def test_a_new_key_works_and_is_kept_as_its_hash_only(path):
    secret = KeyAdmin(path).create("web", ("read",), {"usd_per_day": 2.0})
    key = found(path, secret)
    assert (key.name, key.roles, key.limits.usd_per_day) == ("web", {"read"}, 2.0)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="Key 'web' exists"):
        KeyAdmin(path).create("web")


def test_a_key_expires(path):
    clock = Clock()
    secret = KeyAdmin(path).create("web", expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert found(path, secret, clock) is not None
    clock.now_s += 3_601
    assert found(path, secret, clock) is None


def test_a_replaced_key_works_for_the_overlap_and_stays_the_same_key(path):
    admin, clock = KeyAdmin(path), Clock()
    texts = [admin.create("web")]
    first = found(path, texts[0])
    for _ in range(2):
        texts.append(admin.rotate("web", 60.0))
        assert {found(path, text, clock).key_id for text in texts[-2:]} == {first.key_id}
    assert found(path, texts[0], clock) is None
    clock.now_s += 61
    assert found(path, texts[1], clock) is None
    assert found(path, texts[2], clock).key_id == first.key_id
    assert [key.name for key in KeyRing(path, {}).keys] == ["default", "web"]


def test_a_revoked_key_is_gone_and_the_last_one_stays(path):
    admin = KeyAdmin(path)
    secret = admin.create("web")
    admin.revoke("web")
    assert found(path, secret) is None
    with pytest.raises(ValueError, match="'default' is the last one"):
        admin.revoke("default")
    with pytest.raises(ValueError, match=r"no key 'web'\. Known: default"):
        admin.rotate("web", 1.0)


def test_every_change_is_noted_and_no_key_is(path):
    admin = KeyAdmin(path)
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
