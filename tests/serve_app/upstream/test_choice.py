"""Which replica gives the first token first: what it has cached, what is ahead of it, and bounded loads."""

from collections import Counter
from dataclasses import replace

import pytest

from deployments.dispatch.columns import Observer
from deployments.dispatch.request import Prompt
from policies.latency.model import FirstToken, LatencyModel, LatencyParameters
from serve_app.upstream.choice import Ask
from serve_app.upstream.ejection import Ejections
from serve_app.upstream.replicas import Upstreams
from tests.deployments.pools import View, model, snapshot

FITTED = LatencyModel({"m": LatencyParameters(base_s=0.02, prefill_s=0.001, tpot_s=0.02, count=1000)})
LONG = "the same long beginning of every prompt " * 100


class Pool(View):
    """A model "m" with replicas, as one ingress sees them."""

    secret = "s"
    lagging = False

    def __init__(self, replicas: int = 4, ingresses: int = 1, **fields: object) -> None:
        row = model("m", replicas=replicas, **fields)
        super().__init__(snapshot(row, ingresses={f"i{k}": "" for k in range(ingresses)}))
        self.busy: Counter[str] = Counter()
        self.now_s = 0.0
        self.upstreams = Upstreams(self, Ejections(lambda: self.now_s), lambda: self.now_s)
        self.observer = Observer()

    def replica_in_flight(self, replica: str) -> int:
        return self.busy[replica]

    def load(self, **running: int) -> None:
        """What the replicas report; `m0` is "m#0"."""
        row = self.snapshot.models["m"]
        rows = tuple(replace(r, running=running.get(r.replica.replace("#", ""), 0)) for r in row.replicas)
        shown = replace(
            self.snapshot, version=self.snapshot.version + 1, models={"m": replace(row, replicas=rows)}
        )
        self.snapshot = shown

    def ask(self, text: str, salt: str = "k", latency: LatencyModel = FITTED, **prompt: object) -> Ask:
        prompt = {"conversation": text[:40] + text[-40:], **prompt}
        return Ask(Prompt(text, **prompt), salt, self.observer.columns(self.snapshot, self.age, latency))

    def choose(self, text: str, tried: tuple[str, ...] = (), **fields: object):
        choice = self.upstreams.pick_for(self.ask(text, **fields), "m", tried)
        self.now_s += 60.0  # all is read
        return choice


def test_a_conversation_goes_on_where_its_prefix_is():
    pool = Pool()
    chosen = pool.choose(LONG)
    assert chosen.cached_share == 0.0
    for number in range(10):
        again = pool.choose(LONG + f"and then {number}")
        assert again.row.replica == chosen.row.replica
        assert again.cached_share > 0.9


def test_another_key_and_other_tools_find_nothing_cached():
    pool = Pool()
    pool.choose(LONG, tools=b"[1]")
    assert pool.choose(LONG, tools=b"[1]").cached_share > 0.9
    assert pool.choose(LONG, tools=b"[2]").cached_share == 0.0
    assert pool.choose(LONG, salt="other").cached_share == 0.0


def test_a_queue_may_be_longer_than_what_the_cache_saves():
    pool = Pool(replicas=2)
    warm = pool.choose(LONG).row.replica
    pool.load(**{warm.replace("#", ""): 8})
    assert pool.choose(LONG).row.replica != warm


def test_prompts_that_wait_to_be_read_count_at_once():
    pool = Pool(replicas=2)
    asked = [pool.upstreams.pick_for(pool.ask(f"{number} {LONG}"), "m").row.replica for number in range(8)]
    assert Counter(asked) == {"m#0": 4, "m#1": 4}


def test_no_replica_takes_more_than_its_part():
    pool = Pool(replicas=4, slots=64)
    for number in range(200):
        chosen = pool.choose(LONG + str(number))
        pool.busy[chosen.row.replica] += 1
    assert max(pool.busy.values()) <= 1.3 * 200 / 4 + 1


def test_one_replica_is_chosen_without_hashing():
    pool = Pool(replicas=1)
    ask = pool.ask(LONG)
    choice = pool.upstreams.pick_for(ask, "m")
    assert (choice.row.replica, choice.cached_share, ask.hashes) == ("m#0", None, None)


def test_retries_and_ejection_come_before_the_cache():
    pool = Pool(replicas=2)
    warm = pool.choose(LONG).row.replica
    other = {"m#0": "m#1", "m#1": "m#0"}[warm]
    assert pool.choose(LONG, tried=(warm,)).row.replica == other
    assert pool.choose(LONG, tried=(warm, other)) is None
    pool = Pool(replicas=2)
    warm = pool.choose(LONG).row.replica
    pool.upstreams.ejections.failed(warm, gone=True)
    assert pool.upstreams.pick_for(pool.ask(LONG), "m").row.replica != warm
    assert pool.upstreams.pick_for(pool.ask(LONG), "nope") is None


def test_two_ingresses_meet_at_a_conversations_home():
    one, other = Pool(replicas=8, ingresses=2), Pool(replicas=8, ingresses=2)
    met = 0
    for number in range(50):
        text = f"conversation {number}: {LONG}"
        named = {"conversation": f"{number:x}"}
        begun = one.choose(text, **named).row.replica
        met += other.choose(text + "more", continues=True, turns=4, **named).row.replica == begun
    assert met >= 45


@pytest.mark.parametrize("prompt", [Prompt("a\nb", longest="a"), Prompt(tokens=500)])
def test_what_is_no_single_text_goes_by_load(prompt):
    pool = Pool(replicas=2)
    ask = Ask(prompt, "k", pool.observer.columns(pool.snapshot, 0.0, FITTED))
    pool.load(m0=8)
    assert pool.upstreams.pick_for(ask, "m").row.replica == "m#1"
    assert ask.hashes == []


def test_a_model_that_nobody_fitted_keeps_to_the_cache_too():
    pool = Pool()
    chosen = pool.choose(LONG, latency=LatencyModel()).row.replica
    assert all(pool.choose(LONG + str(n), latency=LatencyModel()).row.replica == chosen for n in range(5))


def test_reading_takes_no_time_for_what_is_cached():
    assert FirstToken(0.1, 0.001, 1.0).reading_s(100, 0.5) == pytest.approx(0.1)
    assert FirstToken(0.1, 0.0, 1.0).reading_s(100, 0.5) == pytest.approx(0.05)


def test_replicas_that_are_gone_are_forgotten():
    pool = Pool(replicas=2)
    warm = pool.choose(LONG).row.replica
    pool.upstreams.forget(frozenset({"m#0", "m#1"} - {warm}))
    assert pool.choose(LONG).cached_share == 0.0


def test_beside_another_only_a_free_replica_that_is_not_ejected_is_asked():
    pool = Pool(replicas=4, slots=2)
    ask = pool.ask(LONG)
    pool.load(m1=2)
    for _ in range(3):
        pool.upstreams.ejections.failed("m#2")
    assert pool.upstreams.pick_free(ask, "m", {"m#0"}).replica == "m#3"
    pool.busy["m#3"] = 2
    assert pool.upstreams.pick_free(ask, "m", {"m#0"}) is None
