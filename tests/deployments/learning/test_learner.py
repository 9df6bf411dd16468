"""The learner on a real table: a candidate's whole life, restarts at each step, and rollback of a bad one."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.learning.candidate_job import JobInput, JobResult
from deployments.learning.learner import Learner
from deployments.learning.settings import LearnerSettings
from deployments.records.records import EvaluationRecord, PolicyEvent
from deployments.table.errors import StorageUnavailableError
from deployments.table.store.store import Store
from deployments.table.table import Table
from policies.learned.checkpoint import new_manifest
from policies.learned.policy import LearnedPolicy
from policies.outcome import Status
from policies.promotion.alarms import AlarmSettings
from policies.promotion.canary import CanarySettings
from policies.promotion.gates import Verdict
from policies.promotion.rollout import Candidate, RolloutState, Stage, Step
from policies.promotion.slices import serves
from policies.promotion.spending import level
from policies.training.network import DispatchNetwork
from serve_app.console.errors import CommandError
from serve_app.console.versions import Action, act, history, versions
from tests.clock import Clock
from tests.deployments.traffic import MODELS, decision, outcome

SETTINGS = LearnerSettings(
    settle_s=0.0,
    votes_s=0.0,
    retry_s=1.0,
    min_new_items=1,
    cooldown_s=50.0,
    canary=CanarySettings(
        ladder=(0.5,),
        min_requests=20,
        min_step_s=5.0,
        shadow_requests=10,
        min_slice_s=2.0,
        slice_latencies=1.0,
        slice_requests=1,
        margin=0.14,
    ),
)


def checkpoint() -> bytes:
    network = DispatchNetwork(hidden=8)
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    kept = {name: value for name, value in tensors.items() if not name.startswith("value.")}
    return LearnedPolicy(kept, new_manifest(kept, 20.0, 8, {})).to_bytes()


class Pool:
    """A table, a learner that may be started anew at any time, and traffic."""

    def __init__(self, folder: Path) -> None:
        self.table = Table(Store(f"sqlite:///{folder}/store.sqlite3"))
        self.clock = Clock(time.time())
        self.verdicts = [Verdict("A", True, "better")]
        self.jobs: list[JobInput] = []
        self.learner = self.restarted()
        self.count = 0

    def restarted(self) -> Learner:
        """A learner that knows nothing but the table."""

        async def job(data: JobInput, settings: LearnerSettings) -> JobResult:
            self.jobs.append(data)
            return JobResult(data.candidate or checkpoint(), self.verdicts, 200, "", [{"reward": 0.5}])

        self.learner = Learner(SETTINGS, self.table, job, self.clock)
        return self.learner

    async def state(self) -> RolloutState:
        """The rollout state in the table."""
        return await self.table.rollout()

    async def traffic(
        self,
        requests: int,
        policy: str,
        e2e_s: float = 1.0,
        failed: bool = False,
        assigned: int | None = None,
    ) -> None:
        """Finished `auto` requests, ten a second."""
        decisions, outcomes = [], []
        for _ in range(requests):
            self.clock.now_s += 0.1
            self.count += 1
            name, model = f"d{self.count}", MODELS[self.count % 2]
            record = decision(name, self.clock.now_s, policy, model, assigned=assigned)
            decisions.append(record)
            status = Status.FAILED if failed else Status.OK
            outcomes.append(outcome(record, self.clock.now_s, status, e2e_s))
        await self.table.report_ingress("i", self.count, {}, decisions, outcomes)
        self.clock.now_s += 0.1

    async def slices(self, count: int, **fields: object) -> None:
        """Slices of the canary under way; `fields` change the outcomes of the candidate's."""
        for _ in range(10 * int(SETTINGS.canary.min_slice_s) * count):
            candidate = (await self.state()).candidate
            if candidate is not None and serves(candidate, self.clock.now_s + 0.1):
                await self.traffic(1, **({"policy": f"learned@{candidate.version}"} | fields))  # type: ignore[arg-type]
            else:
                await self.traffic(1, "formula")
            self.clock.now_s -= 0.1

    async def serve(self, seconds: float, **fields: object) -> None:
        """What version 1, active, and the formula before it decide; `fields` change the former's outcomes."""
        for _ in range(int(seconds / 2.0)):
            await self.traffic(19, "learned@1", **fields)  # type: ignore[arg-type]
            await self.traffic(1, "formula")

    async def to_canary(self) -> None:
        """Train, pass the gates, pass the shadow."""
        await self.learner.learn()
        await self.traffic(12, "formula")
        await self.restarted().watch()
        assert (await self.state()).candidate is not None

    async def to_active(self) -> None:
        """All the way up the ladder."""
        await self.to_canary()
        await self.slices(24)
        await self.restarted().watch()
        assert (await self.state()).active == 1


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    pool = Pool(tmp_path)
    graded = EvaluationRecord("s", "1", "item", "task", "", "small", "", 1.0, finished_s=1.0)
    await pool.table.record_evaluations([graded])
    yield pool
    await pool.table.close()


async def test_a_candidate_goes_from_training_to_active_over_restarts(pool: Pool) -> None:
    await pool.to_canary()
    state = await pool.state()
    assert state.candidate is not None
    assert (state.candidate.stage, state.candidate.share) == ("canary", 0.5)
    for _ in range(24):
        await pool.slices(1)
        await pool.restarted().watch()
    state = await pool.state()
    assert (state.active, state.previous, state.candidate) == (1, None, None)
    kinds = [event.kind for event in await pool.table.policy_events()]
    assert kinds == ["trained", "verdict", "shadow", "canary", "promoted"]


async def test_a_failing_canary_goes_back_and_learning_rests(pool: Pool) -> None:
    await pool.to_canary()
    for _ in range(20):
        await pool.slices(1, failed=True)
        await pool.learner.watch()
    state = await pool.state()
    assert (state.active, state.candidate) == (None, None)
    pool.clock.now_s += 10.0
    await pool.restarted().learn()
    assert len(pool.jobs) == 1
    pool.clock.now_s += 7 * 3600.0
    await pool.learner.learn()
    assert len(pool.jobs) == 2
    assert all(record.created_s > (state.frozen_since_s or 0.0) for record, _ in pool.jobs[1].transitions)


@pytest.mark.parametrize("bad", [{"failed": True}, {"e2e_s": 30.0}])
async def test_an_active_version_that_goes_bad_is_rolled_back_within_sixty_seconds(
    pool: Pool, bad: dict[str, object]
) -> None:
    await pool.to_active()
    assert (await pool.state()).active == 1
    await pool.serve(20.0)
    await pool.learner.watch()
    assert (await pool.state()).active == 1
    began_s = pool.clock.now_s
    while (await pool.state()).active == 1:
        await pool.serve(2.0, **bad)
        await pool.learner.watch()
        assert pool.clock.now_s - began_s < 60.0
    assert (await pool.state()).frozen_since_s is not None


async def test_a_bad_time_for_both_versions_rolls_nothing_back(pool: Pool) -> None:
    await pool.to_active()
    for _ in range(30):
        await pool.traffic(19, "learned@1", failed=True)
        await pool.traffic(1, "formula", failed=True)
    await pool.learner.watch()
    assert (await pool.state()).active == 1


async def test_the_share_left_to_the_version_before_follows_the_setting(pool: Pool) -> None:
    await pool.to_active()
    alarms = AlarmSettings(yardstick_share=0.02)
    pool.learner.settings = pool.learner.settings.replace(alarms=alarms)
    await pool.learner.watch()
    assert (await pool.state()).yardstick_share == 0.02


async def test_a_version_that_slows_all_requests_is_found_by_slices_of_time(pool: Pool) -> None:
    await pool.to_active()
    alarms = AlarmSettings(yardstick_share=0.2, false_alarm_every=500.0)
    pool.learner.settings = pool.learner.settings.replace(alarms=alarms)
    await pool.learner.watch()
    pool.clock.now_s += 3_600.0
    for _ in range(40):
        before = (await pool.state()).yardstick
        if before is None:
            break
        for _ in range(20):
            if serves(before, pool.clock.now_s + 0.1):
                await pool.traffic(5, "formula")
            else:
                await pool.traffic(4, "learned@1", e2e_s=30.0)
                await pool.traffic(1, "formula", e2e_s=30.0)  # who decides it does not help it
        await pool.learner.watch()
    assert (await pool.state()).active is None
    assert "slice of time" in str((await pool.table.policy_events())[-1].detail["reason"])


async def test_a_canary_whose_version_always_raises_goes_back(pool: Pool) -> None:
    await pool.to_canary()
    await pool.slices(20, assigned=1, policy="formula;fallback=error")
    await pool.learner.watch()
    assert (await pool.state()).candidate is None
    last = (await pool.table.policy_events())[-1]
    assert last.kind == "rolled_back"


async def test_the_candidates_slice_ends_at_once_when_its_requests_fail(pool: Pool) -> None:
    await pool.to_canary()
    held = 0
    for _ in range(80):
        await pool.traffic(1, "formula")
        state = (await pool.state()).candidate
        assert state is not None
        if serves(state, pool.clock.now_s):
            await pool.traffic(5, "learned@1", failed=True)
            await pool.learner.watch()
            held += 1
            break
    state = (await pool.state()).candidate
    assert held
    assert state is not None
    assert state.held_until_s > pool.clock.now_s
    assert not serves(state, pool.clock.now_s)


async def test_a_canary_about_which_nothing_is_learned_goes_back_in_time(pool: Pool) -> None:
    await pool.to_canary()
    pool.clock.now_s += SETTINGS.canary.limit_s + 1.0
    await pool.learner.watch()
    assert (await pool.state()).candidate is None


async def test_a_learner_that_dies_with_a_candidate_in_hand_gives_its_number_to_no_other(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(event: PolicyEvent) -> None:
        raise StorageUnavailableError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(pool.table, "policy_event", dies)
        with pytest.raises(StorageUnavailableError):
            await pool.learner.learn()
    await pool.restarted().learn()
    candidate = (await pool.state()).candidate
    assert candidate is not None
    assert candidate.version == 2


async def test_a_candidate_from_before_a_rollback_is_left(pool: Pool) -> None:
    async def job(data: JobInput, settings: LearnerSettings) -> JobResult:
        pool.clock.now_s += 5.0
        frozen = replace(await pool.state(), frozen_since_s=pool.clock.now_s)
        await pool.table.set_rollout(frozen)
        return JobResult(checkpoint(), pool.verdicts, 200)

    await Learner(SETTINGS, pool.table, job, pool.clock).learn()
    state = await pool.state()
    assert (state.candidate, state.last_version) == (None, 0)
    assert state.frozen_since_s == pool.clock.now_s


@pytest.mark.parametrize("stage", [Stage.WAITING, Stage.CANARY])
async def test_the_active_version_is_guarded_while_another_waits_or_is_on_trial(
    pool: Pool, stage: Stage
) -> None:
    await pool.to_active()
    now_s = pool.clock.now_s
    await pool.table.put_artifact("policy:2", "2", checkpoint())
    steps = (Step(now_s, 0.05),)
    candidate = Candidate(2, stage, share=0.05, started_s=now_s, since_s=now_s, steps=steps)
    await pool.table.set_rollout(replace(await pool.state(), candidate=candidate))
    await pool.serve(60.0, failed=True)
    await pool.learner.watch()
    state = await pool.state()
    assert (state.active, state.candidate) == (None, None)
    last = (await pool.table.policy_events())[-1]
    assert (last.version, last.kind) == (1, "rolled_back")


async def graded(pool: Pool) -> None:
    """A graded answer more, and the time until its round counts as over."""
    pool.clock.now_s += 1.0
    record = EvaluationRecord("s", "1", f"i{pool.count}", "task", "", "small", "", 1.0)
    await pool.table.record_evaluations([replace(record, finished_s=pool.clock.now_s)])
    pool.count += 1
    pool.clock.now_s += 30.0


async def test_a_candidate_short_of_evidence_is_judged_again_on_new_evidence_alone(pool: Pool) -> None:
    pool.verdicts = [Verdict("A", False, "not shown", {}, needs_evidence=True)]
    await pool.learner.learn()
    assert (await pool.state()).candidate == Candidate(
        1, Stage.WAITING, started_s=pool.clock.now_s, since_s=pool.clock.now_s, reason="A"
    )
    for _ in range(180):
        pool.clock.now_s += 5.0
        await pool.learner.learn()
    assert len(pool.jobs) == 1
    pool.verdicts = [Verdict("A", True, "better")]
    await graded(pool)
    await pool.restarted().learn()
    assert len(pool.jobs) == 2
    assert [job.name for job in pool.jobs] == ["train-candidate-v1", "judge-candidate-v1"]
    assert pool.jobs[0].candidate == b""
    assert LearnedPolicy.from_bytes(pool.jobs[1].candidate).revision
    candidate = (await pool.state()).candidate
    assert candidate is not None
    assert candidate.stage is Stage.SHADOW
    assert [event.kind for event in await pool.table.policy_events()].count("trained") == 1


async def test_a_candidate_for_which_the_log_is_too_short_waits_until_it_has_grown(
    pool: Pool,
) -> None:
    pool.verdicts = [
        Verdict("gain", True, "better"),
        Verdict("C", False, "too short", {}, needs_evidence=True),
    ]
    await pool.learner.learn()
    await pool.traffic(60, "formula")
    await pool.learner.learn()
    assert len(pool.jobs) == 1
    await pool.traffic(60, "formula")
    await pool.learner.learn()
    assert [job.level for job in pool.jobs] == [level(0.05, 1)] * 2  # no new test for a gain


async def test_each_test_for_a_gain_spends_less_of_what_there_is(pool: Pool) -> None:
    pool.verdicts = [Verdict("gain", False, "nowhere better", {}, needs_evidence=True)]
    for _ in range(3):
        await pool.learner.learn()
        await graded(pool)
    assert [job.level for job in pool.jobs] == [level(0.05, number) for number in (1, 2, 3)]
    assert (await pool.state()).tests == 3


async def test_a_refused_candidate_is_dropped_and_kept_in_the_history(pool: Pool) -> None:
    pool.verdicts = [Verdict("load", False, "stale")]
    await pool.learner.learn()
    state = await pool.state()
    assert (state.candidate, state.last_version) == (None, 1)
    events = await pool.table.policy_events()
    assert history(events, 1)[-1]["reason"] == "stale"
    assert versions(state, events)[-1]["state"] == "active"  # the formula


async def test_without_evidence_nothing_is_trained(tmp_path: Path) -> None:
    empty = Pool(tmp_path)
    await empty.learner.learn()
    assert not empty.jobs
    assert "0 graded answers" in (await empty.learner.status())["problem"]
    await empty.table.close()


async def test_a_paused_learner_moves_nothing(pool: Pool) -> None:
    await pool.table.set_rollout(replace(await pool.state(), paused=True))
    await pool.learner.learn()
    await pool.learner.watch()
    assert not pool.jobs


async def command(pool: Pool, action: str, version: int | None = None) -> str:
    said: list[str] = []
    await act(pool.table, Action(action, version), said.append)
    return "\n".join(said)


async def test_an_operator_can_promote_roll_back_shadow_and_pause(pool: Pool) -> None:
    await pool.learner.learn()
    assert "active: learned@1" in await command(pool, "promote", 1)
    assert "active: priced" in await command(pool, "rollback")
    assert "shadow" in await command(pool, "shadow", 1)
    assert "paused: yes" in await command(pool, "pause")
    assert "learned@1" in await command(pool, "list")
    assert "trained" in await command(pool, "show", 1)


async def test_an_unknown_version_is_named_with_the_known_ones(pool: Pool) -> None:
    await pool.learner.learn()
    with pytest.raises(CommandError, match=r"'9' of the policy is not known\. Known: 1"):
        await command(pool, "promote", 9)


async def test_nothing_to_roll_back_is_said(pool: Pool) -> None:
    with pytest.raises(CommandError, match="nothing to roll back"):
        await command(pool, "rollback")
