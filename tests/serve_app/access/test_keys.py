"""A caller's key is found by its hash; the evaluator has its own credential; a problem closes the door."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.keys.entries import KeyEntry
from deployments.keys.internal import internal_credential
from deployments.keys.key import by_digest
from serve_app.access.keys import KeyRing
from tests.serve_app.fixed_keys import FixedKeys

TEXT = "fs-0123456789abcdef0123"
KEYS = by_digest([KeyEntry(name="a", key=TEXT)])


def bearer(key):
    return f"Bearer {key}".encode()


@given(st.binary(max_size=100))
def test_nothing_but_the_key_opens(header):
    keys = KeyRing(FixedKeys(KEYS))
    assert (keys.find(header) is None) == (header.strip() != bearer(TEXT))


def test_a_key_that_is_taken_out_is_unknown_at_once():
    view = FixedKeys(KEYS)
    keys = KeyRing(view)
    assert keys.find(bearer(TEXT)).name == "a"
    view.keys = {}
    assert keys.find(bearer(TEXT)) is None


def test_a_problem_closes_the_door_to_users_and_not_to_the_evaluator():
    keys = KeyRing(FixedKeys(KEYS, "The key file is gone.", "secret"))
    assert keys.problem == "The key file is gone."
    assert keys.find(bearer(TEXT)) is None
    assert keys.find(bearer(internal_credential("secret"))).name == "internal"


def test_the_evaluators_credential_follows_the_secret_and_may_only_ask():
    view = FixedKeys(KEYS, secret="one")
    keys = KeyRing(view)
    assert keys.find(bearer(internal_credential("one"))).roles == {"infer"}
    view.secret = "two"
    assert keys.find(bearer(internal_credential("one"))) is None
    assert keys.find(bearer(internal_credential("two"))) is not None
    assert [key.name for key in keys.keys] == ["a"]


@pytest.mark.parametrize("secret", ["", "secret"])
def test_the_secret_itself_opens_nothing(secret):
    keys = KeyRing(FixedKeys({}, secret=secret))
    assert keys.find(bearer(secret)) is None
    assert keys.find(bearer(internal_credential(""))) is None
