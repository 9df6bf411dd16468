"""The simulated engines' prefix cache against vLLM's own, and the workload against what it promises."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks.prefix.engine import BlockCache
from scripts.benchmarks.prefix.pool import INGRESSES, Pool
from scripts.benchmarks.prefix.ways import BoundedHashWay, LeastBusyWay, RayPrefixWay, RoundRobinWay
from scripts.benchmarks.prefix.workload import BLOCK_TOKENS, chained, made_workload, shares

BLOCKS = 60


class VllmCache:
    """vLLM's KVCacheManager over one group of full attention, as its scheduler uses it."""

    def __init__(self, blocks: int) -> None:
        import torch
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_manager import KVCacheManager
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

        init_none_hash(sha256)
        spec = FullAttentionSpec(block_size=BLOCK_TOKENS, num_kv_heads=1, head_size=1, dtype=torch.float32)
        config = KVCacheConfig(
            blocks + 1, [], [KVCacheGroupSpec(["layer"], spec)]
        )  # the one more is never given out
        self._manager = KVCacheManager(
            config, max_model_len=8192, scheduler_block_size=BLOCK_TOKENS, hash_block_size=BLOCK_TOKENS
        )
        self._hasher = get_request_block_hasher(BLOCK_TOKENS, sha256)

    def start(self, name: str, prompt: list[int], output: list[int]) -> tuple[Any, int] | None:
        """Read a prompt and write its answer in one; the request and what of it was cached."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        sampling = SamplingParams(max_tokens=len(output))
        request = Request(name, prompt, sampling, None, block_hasher=self._hasher)
        known, cached, _ = self._manager.get_computed_blocks(request)
        took = self._manager.allocate_slots(
            request, len(prompt) - cached, cached, known, num_lookahead_tokens=len(output)
        )
        if took is None:
            return None
        request.num_computed_tokens = len(prompt)
        for token in output:
            request.append_output_token_ids(token)
            if request.num_tokens < len(prompt) + len(output):
                assert self._manager.allocate_slots(request, 1) is not None
                request.num_computed_tokens += 1
        return request, cached

    def end(self, request: Any) -> None:
        """Free its blocks."""
        self._manager.free(request)


class OurCache:
    """The same over the benchmark's BlockCache."""

    def __init__(self, blocks: int) -> None:
        self._cache = BlockCache(blocks)

    def start(self, prompt: list[int], output: list[int]) -> tuple[list[int], int] | None:
        hashes = chained(prompt + output)
        known = self._cache.lookup(hashes, len(prompt))
        needed = -(-(len(prompt) + len(output)) // BLOCK_TOKENS) - len(known)
        if needed + self._cache.idle(known) > self._cache.free:
            return None
        self._cache.hold(known)
        blocks = [*known, *self._cache.take(needed)]
        for index in range(len(known), (len(prompt) + len(output) - 1) // BLOCK_TOKENS):
            self._cache.fill(blocks[index], hashes[index])
        return blocks, len(known) * BLOCK_TOKENS

    def end(self, blocks: list[int]) -> None:
        self._cache.release(blocks)


@pytest.mark.vllm
def test_the_simulated_cache_hits_and_evicts_as_vllms_does():
    pytest.importorskip("vllm.v1.core.kv_cache_manager", reason="vLLM is not installed")
    rng = np.random.default_rng(7)
    theirs, ours = VllmCache(BLOCKS), OurCache(BLOCKS)
    systems = [rng.integers(0, 1000, size).tolist() for size in (70, 100, 33)]
    earlier: list[list[int]] = list(systems)
    under_way: list[tuple[Any, list[int]]] = []
    hits, refusals = 0, 0
    for number in range(600):
        if under_way and (len(under_way) == 3 or rng.random() < 0.4):
            request, blocks = under_way.pop(int(rng.integers(len(under_way))))
            theirs.end(request)
            ours.end(blocks)
        prompt = [
            *earlier[int(rng.integers(len(earlier)))],
            *rng.integers(0, 1000, rng.integers(1, 90)).tolist(),
        ]
        output = rng.integers(0, 1000, int(rng.integers(1, 40))).tolist()
        one, other = theirs.start(str(number), prompt, output), ours.start(prompt, output)
        assert (one is None) == (other is None), number
        if one is None or other is None:
            refusals += 1
            continue
        assert one[1] == other[1], number
        hits += other[1] > 0
        under_way.append((one[0], other[0]))
        if len(prompt) < 250:
            earlier = [*systems, *earlier[-5:], [*prompt, *output]]
    assert hits > 200


def test_the_workload_shares_what_it_promises():
    made = made_workload(4000, 4, 3)
    found = shares([turn for turns in made.conversations for turn in turns])
    assert found["shared_of_prompt_tokens"] == pytest.approx(0.6, abs=0.04)
    assert found["within_conversation"] == pytest.approx(0.3, abs=0.04)
    turns = next(turns for turns in made.conversations if len(turns) > 1)
    assert turns[1].text.startswith(turns[0].text)
    known = turns[0].prompt_tokens // BLOCK_TOKENS
    assert turns[1].blocks[:known] == turns[0].blocks[:known]
    assert made.live_tokens(1.0) < made.live_tokens(0.1)


def test_a_run_serves_turns_once_and_in_order():
    made = made_workload(80, 2, 1)
    pool = Pool(2, 32_768, 1)
    pool.run(made, LeastBusyWay(pool.views, lambda: pool.now_s), 1.0)
    assert len({id(turn) for turn in pool.done}) == len(pool.done) > 30
    assert len(pool.done) == sum(engine.served for engine in pool.engines)
    done = set(map(id, pool.done))
    for turns in made.conversations:
        for turn, later in pairwise(turns):
            assert id(later) not in done or (id(turn) in done and later.sent_s > turn.first_token_s)
    assert all(turn.ttft_s > 0 and turn.cached_tokens < turn.prompt_tokens for turn in pool.done)


def test_round_robin_alternates():
    way = RoundRobinWay(INGRESSES, 4)
    turn = made_workload(1, 1, 1).conversations[0][0]
    assert [way.choose(turn, 0) for _ in range(8)] == [1, 2, 3, 0, 1, 2, 3, 0]


def test_rays_rule_stays_with_a_prefix_and_takes_the_emptiest_tree_for_a_new_one():
    pool = Pool(3, 32_768, 1)
    way = RayPrefixWay(pool.engines, lambda: pool.now_s, 1)
    made = [turns for turns in made_workload(200, 1, 1).conversations if len(turns) > 1]
    one = next(turns for turns in made if turns[1].shared_tokens > turns[1].prompt_tokens / 2)
    other = next(turns for turns in made if turns[0].system != one[0].system)
    chosen = way.choose(one[0], 0)
    assert way.choose(one[1], 1) == chosen
    assert way.choose(other[0], 0) != chosen


def test_a_bounded_hash_goes_on_round_the_ring_where_a_replica_is_full():
    pool = Pool(2, 32_768, 1)
    way = BoundedHashWay(pool.engines)
    turn = made_workload(1, 1, 1).conversations[0][0]
    first = way.choose(turn, 0)
    assert way.choose(turn, 1) == first
    pool.engines[first].waiting.extend([(turn, lambda: None)] * 4)
    assert way.choose(turn, 0) != first
