"""How a sign-in ends: by time, with its key, with the role, by a hand on the cookie."""

from dataclasses import replace

import pytest

from deployments.keys.entries import KeyFile
from deployments.keys.key import by_digest
from serve_app.access.keys import KeyRing
from serve_app.dashboard.sessions import COOKIE, Sessions
from serve_app.http.errors import ApiError
from tests.serve_app.fixed_keys import FixedKeys

TEXT = "fs-session-key-0123456789"


class Ground:
    """Keys and a clock that a test moves."""

    def __init__(self) -> None:
        entry = {"name": "one", "key": TEXT, "roles": ["read"]}
        self.known = FixedKeys(by_digest(KeyFile.model_validate({"keys": [entry]}).keys))
        self.now_s = 1_000_000.0
        self.sessions = self.made("pool secret")

    def made(self, secret: str) -> Sessions:
        return Sessions(KeyRing(self.known).find, secret, 600.0, lambda: self.now_s)

    def is_in(self, token: str) -> bool:
        return self.sessions.visitor(f"other=1; {COOKIE}={token}".encode()) is not None


@pytest.fixture
def ground() -> Ground:
    return Ground()


def test_a_session_ends_by_itself(ground: Ground) -> None:
    token = ground.sessions.sign_in(TEXT).token
    ground.now_s += 599
    assert ground.is_in(token)
    ground.now_s += 2
    assert not ground.is_in(token)


def test_a_session_ends_with_its_key_or_its_role(ground: Ground) -> None:
    token = ground.sessions.sign_in(TEXT).token
    ((digest, key),) = ground.known.keys.items()
    ground.known.keys = {digest: replace(key, roles=frozenset({"infer"}))}
    assert not ground.is_in(token)
    ground.known.keys = {}
    assert not ground.is_in(token)
    ground.known.keys = {digest: key}
    assert ground.is_in(token)


def test_a_dashboard_that_starts_anew_knows_its_viewers_and_no_other_pools(ground: Ground) -> None:
    token = ground.sessions.sign_in(TEXT).token
    ground.sessions = ground.made("pool secret")
    assert ground.is_in(token)
    ground.sessions = ground.made("another secret")
    assert not ground.is_in(token)


@pytest.mark.parametrize(
    "cookies", [None, b"", b"\xff", b"a=b", f"{COOKIE}=".encode(), f"{COOKIE}=gAAAA".encode()]
)
def test_cookies_that_are_none_open_nothing(ground: Ground, cookies: bytes | None) -> None:
    assert ground.sessions.visitor(cookies) is None


def test_a_changed_cookie_opens_nothing(ground: Ground) -> None:
    token = ground.sessions.sign_in(TEXT).token
    for at in range(0, len(token), 7):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        assert not ground.is_in(changed)


def test_the_text_of_a_key_shows_in_no_message(ground: Ground) -> None:
    visitor = ground.sessions.sign_in(TEXT)
    assert TEXT not in repr(visitor)
    with pytest.raises(ApiError) as caught:
        ground.sessions.sign_in(TEXT + "x")
    assert TEXT not in str(caught.value)
