"""A past for a pool: evaluations, versions with verdicts, a canary and votes, as months of use leave them."""

from dataclasses import replace

from deployments.records.records import EvaluationRecord, FeedbackRecord, PolicyEvent
from deployments.table.table import Table
from policies.promotion.rollout import Candidate, Stage

VERDICTS = [
    {
        "gate": "A",
        "passed": True,
        "reason": "gain +0.0213, at least +0.0102",
        "numbers": {"gain.mean": 0.0213},
    },
    {"gate": "B", "passed": True, "reason": "keeps up with least_loaded", "numbers": {"burst.low": 0.003}},
    {
        "gate": "C",
        "passed": False,
        "needs_evidence": True,
        "reason": "effective sample size 31, 100 needed",
        "numbers": {"ess": 31.0},
    },
]


async def evaluated(table: Table, models: list[str], now_s: float) -> None:
    """Graded answers of every model on two tasks."""
    await table.record_evaluations(
        [
            EvaluationRecord(
                "suite",
                "1",
                f"{task}-{item}",
                task,
                "",
                model,
                "r1",
                float(item % (2 + at) == 0),
                finished_s=now_s,
            )
            for at, model in enumerate(models)
            for task in ("intent", "summary")
            for item in range(20)
        ]
    )


async def trained(table: Table, now_s: float) -> None:
    """Version 1 serves since an hour, version 2 is in canary."""
    steps = [("trained", {"items": 400}), *(("verdict", one) for one in VERDICTS)]
    for version, at_s in ((1, now_s - 7200), (2, now_s - 1800)):
        for place, (kind, detail) in enumerate(steps):
            await table.policy_event(PolicyEvent(version, at_s + place, kind, detail))
    await table.policy_event(PolicyEvent(1, now_s - 3600, "promoted", {"before": None}))
    await table.policy_event(PolicyEvent(2, now_s - 60, "canary", {"step": 1, "share": 0.05}))
    state = await table.rollout()
    candidate = Candidate(2, Stage.CANARY, share=0.05, step=1, started_s=now_s - 60, since_s=now_s - 60)
    await table.set_rollout(replace(state, last_version=2, candidate=candidate))


async def voted(table: Table, decisions: list[str], key_id: str, now_s: float) -> None:
    """A vote on each decision, two of three in favour."""
    for place, decision in enumerate(decisions):
        record = FeedbackRecord(decision, key_id, "quality", float(place % 3 > 0), now_s)
        assert await table.feedback(record) == "new"
