"""What is known of a key tells nothing of its text."""

import hashlib
from datetime import UTC, datetime

from deployments.keys.entries import KeyEntry
from deployments.keys.key import by_digest

TEXT = "fs-0123456789abcdef0123"


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_ids_and_salts_differ_by_key_and_tell_nothing_of_it() -> None:
    a, b = by_digest([KeyEntry(name="a", key=TEXT), KeyEntry(name="b", key=TEXT + "x")]).values()
    assert a.key_id != b.key_id
    assert a.cache_salt != b.cache_salt
    assert digest(TEXT).hex()[:12] not in (a.key_id, a.cache_salt)


def test_a_key_may_be_kept_as_its_hash() -> None:
    entry = KeyEntry(name="a", sha256=digest(TEXT).hex(), roles=("feedback",))
    assert by_digest([entry])[digest(TEXT)].roles == {"feedback"}


def test_weight_and_priority_go_with_the_key() -> None:
    plain, batch = by_digest(
        [KeyEntry(name="a", key=TEXT), KeyEntry(name="b", key=TEXT + "x", weight=2.5, priority="batch")]
    ).values()
    assert (plain.weight, plain.priority) == (1.0, "interactive")
    assert (batch.weight, batch.priority) == (2.5, "batch")


def test_a_replaced_text_ends_at_its_own_time() -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    entry = KeyEntry(name="a", key=TEXT, previous_sha256=digest("before").hex(), previous_until=until)
    keys = by_digest([entry])
    assert keys[digest("before")].expires_s == until.timestamp() < keys[digest(TEXT)].expires_s
    assert keys[digest("before")].key_id == keys[digest(TEXT)].key_id
