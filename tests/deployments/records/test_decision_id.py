"""Ids of decisions say which request they belong to, also where it was let in more than once."""

import uuid

import pytest

from deployments.records.decision_id import decision_id, of_request, request_name, request_of


def test_all_ids_of_a_request_stand_together_and_are_new_each_time() -> None:
    names = [request_name(str(uuid.uuid4()).encode()) for _ in range(50)]
    ids = {name: {decision_id(name) for _ in range(20)} for name in names}
    for name, own in ids.items():
        assert len(own) == 20
        assert {request_of(one) for one in own} == {name}
        first, last = of_request(name)
        assert sum(first <= one <= last for found in ids.values() for one in found) == 20


@pytest.mark.parametrize("given", [None, b"", b"x" * 36, b"0" * 500, "\u00e9".encode() * 18])
def test_what_is_no_name_of_haproxy_s_is_replaced(given: bytes | None) -> None:
    assert request_name(given) != request_name(given)
    assert request_of(decision_id(request_name(given))) is not None


def test_an_id_that_was_not_made_here_belongs_to_no_request() -> None:
    assert [request_of(one) for one in ("d-1", "t-" + "0" * 32, "d-" + "0" * 33)] == [None] * 3
