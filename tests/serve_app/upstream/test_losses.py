"""A prompt that ends replicas does not go from one to the next."""

from dataclasses import replace

import pytest

from deployments.records.snapshot import ReplicaRow, ReplicaState
from serve_app.upstream.losses import KEPT_S, MOST, Losses
from tests.clock import Clock
from tests.serve_app.jobs import made_job


class Pool:
    """Replicas as the table has them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.rows = {name: self.row(name) for name in ("a", "b", "c")}
        self.losses = Losses(self.rows.get, self.clock)

    def row(self, name: str) -> ReplicaRow:
        return ReplicaRow(name, "m", f"http://{name}", ReplicaState.WARM, pushed_at_s=100.0)


@pytest.fixture(name="pool")
def pool_fixture() -> Pool:
    return Pool()


def test_replicas_are_counted_by_prompt_and_each_once(pool):
    job, other = made_job(), made_job()
    other.call.prompt = replace(other.call.prompt, text="Another one")
    for name in ("a", "a", "b"):
        pool.losses.add(job, pool.row(name))
    assert (pool.losses.count(job), pool.losses.count(other)) == (MOST, 0)


def test_one_that_reports_again_was_only_busy(pool):
    job = made_job()
    for name in ("a", "b"):
        pool.losses.add(job, pool.row(name))
    pool.rows["a"] = replace(pool.rows["a"], pushed_at_s=102.0)
    del pool.rows["b"]  # the table has forgotten it: it is dead
    assert pool.losses.count(job) == 1


def test_one_whose_engine_is_dead_does_not_come_back_though_it_reports(pool):
    job = made_job()
    pool.losses.add(job, pool.row("a"), is_dead=True)
    pool.rows["a"] = replace(pool.rows["a"], pushed_at_s=102.0)
    assert pool.losses.count(job) == 1


def test_an_answer_and_time_forget(pool):
    job = made_job()
    pool.losses.add(job, pool.row("a"))
    pool.losses.answered(job)
    assert pool.losses.count(job) == 0
    pool.losses.add(job, pool.row("a"))
    pool.clock.now_s += KEPT_S + 1.0
    assert pool.losses.count(job) == 0


def test_prompts_of_token_ids_are_told_apart_by_their_bodies(pool):
    one, other = made_job(), made_job()
    for job, raw in ((one, b"[1]"), (other, b"[2]")):
        job.call.prompt, job.raw = replace(job.call.prompt, text="", tokens=1), raw
    pool.losses.add(one, pool.row("a"))
    assert (pool.losses.count(one), pool.losses.count(other)) == (1, 0)
