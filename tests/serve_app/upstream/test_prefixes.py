"""What is remembered of prompts: only beginnings that were sent, only for their own key, never too much."""

import time

import pytest

from serve_app.upstream.prefixes import BLOCK_BYTES, Prefixes

KV_TOKENS = 1024  # 16 blocks


def text(blocks: int, first: str = "a") -> bytes:
    return first.encode() + b"b" * (blocks * BLOCK_BYTES - 1)


def sent(prefixes, data, replica="r", salt="s", kv_tokens=KV_TOKENS, ingresses=1):
    prefixes.sent(replica, prefixes.hashes(data, salt), kv_tokens, ingresses)


def cached(prefixes, data, replica="r", salt="s"):
    return prefixes.cached(replica, prefixes.hashes(data, salt))


def test_a_beginning_is_known_where_it_was_sent_and_nowhere_else():
    prefixes = Prefixes()
    sent(prefixes, text(5))
    assert cached(prefixes, text(5) + b"more") == 5
    assert cached(prefixes, text(9)) == 5
    assert cached(prefixes, text(3)) == 3
    assert cached(prefixes, text(5, "c")) == 0
    assert cached(prefixes, text(5), replica="other") == 0


def test_a_key_learns_nothing_of_another():
    prefixes = Prefixes()
    sent(prefixes, text(5), salt="one")
    assert cached(prefixes, text(5), salt="two") == 0


def test_hashes_of_one_process_mean_nothing_in_another_nor_after_an_hour():
    now_s = [0.0]
    one, other = Prefixes(lambda: now_s[0]), Prefixes()
    hashes = one.hashes(text(2), "s")
    assert not set(hashes) & set(other.hashes(text(2), "s"))
    sent(one, text(2))
    now_s[0] = 3599.0
    assert cached(one, text(2)) == 2
    now_s[0] = 3600.0
    assert cached(one, text(2)) == 0
    assert not set(hashes) & set(one.hashes(text(2), "s"))


def test_the_oldest_go_first_and_ends_before_beginnings():
    prefixes = Prefixes()
    sent(prefixes, text(10, "a"))
    sent(prefixes, text(10, "b"))
    assert (cached(prefixes, text(10, "a")), cached(prefixes, text(10, "b"))) == (6, 10)
    sent(prefixes, text(6, "a"))
    sent(prefixes, text(8, "c"))
    assert [cached(prefixes, text(10, one)) for one in "abc"] == [6, 2, 8]


def test_a_cache_that_two_ingresses_fill_holds_half_of_what_each_sends():
    prefixes = Prefixes()
    sent(prefixes, text(16), ingresses=2)
    assert cached(prefixes, text(16)) == 8


def test_memory_is_bounded_over_all_replicas(monkeypatch):
    monkeypatch.setattr("serve_app.upstream.prefixes._MOST_BLOCKS", 40)
    prefixes = Prefixes()
    for number in range(4):
        sent(prefixes, text(30), replica=f"r{number}", kv_tokens=10**9)
    assert cached(prefixes, text(30), replica="r3") == 10
    prefixes.forget(frozenset({"r3"}))
    assert cached(prefixes, text(30), replica="r2") == 0


@pytest.mark.timing
def test_eight_kilobytes_are_hashed_in_thirty_microseconds():
    prefixes, data, best_s = Prefixes(), text(32), 1.0
    for _ in range(200):
        began_s = time.perf_counter()
        prefixes.hashes(data, "salt")
        best_s = min(best_s, time.perf_counter() - began_s)
    assert best_s <= 30e-6
