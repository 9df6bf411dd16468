"""Dispatch: one path for choosing and explaining, replay from the record, the closed loops."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.dispatch.dispatch import Dispatch
from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.request import UnknownModelError
from deployments.dispatch.settings import DispatchSettings
from deployments.records.records import DecisionRecord, OutcomeRecord
from deployments.records.snapshot import ReplicaState
from policies.decider import NAMED
from policies.decision import draw
from policies.observation import Observation
from policies.outcome import Outcome, Status
from policies.priced import PricedPolicy
from policies.profile import UnknownProfileError
from policies.promotion.rollout import Candidate, RolloutState, Stage
from policies.prompt.features import unpack
from policies.utility import Weights
from tests.clock import Clock
from tests.deployments.dispatch.dispatchers import Made, MadeQuality, ask, dispatcher, pool
from tests.deployments.pools import NOW_S, View, model, snapshot


def finish(made: Dispatcher, dispatch: Dispatch, model: str = "", **outcome: Any) -> None:
    """Settle a dispatch; `model` answered, by default the chosen one."""
    result = Outcome(**{"status": Status.OK, "e2e_s": 1.0, **outcome})
    record = OutcomeRecord(dispatch.record.decision_id, 0.0, model or dispatch.decision.model, "r", result)
    made.settlement.settle(dispatch, record, made._wall())


def observation_of(record: DecisionRecord) -> Observation:
    """The observation that a record keeps."""
    return Observation(
        record.models,
        np.array(record.rows),
        np.array(record.prompt),
        np.array(record.caller),
        np.array(record.mask),
    )


def test_the_choice_is_the_rules_and_its_probability_is_logged() -> None:
    dispatched = dispatcher().dispatch(ask())
    pi = PricedPolicy().probabilities(dispatched.observation, dispatched.record.epsilon)
    assert dispatched.record.probabilities == tuple(pi.tolist())
    assert dispatched.record.propensity == pi[dispatched.decision.index]
    assert dispatched.record.policy == "priced"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20), st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_replay_from_the_record_reproduces_the_choice(
    text: str, decision_id: str, accuracy: float, latency: float
) -> None:
    asked = ask(decision_id, text=text, weights=Weights(accuracy, latency, 0.1))
    record = dispatcher(epsilon=0.05).dispatch(asked).record
    again = PricedPolicy().decide(observation_of(record), record.seed, record.epsilon)
    assert (again.model, again.propensity) == (record.model, record.propensity)
    assert record.models[draw(np.array(record.probabilities), record.seed)] == record.model
    assert unpack(record.features).ids.dtype == np.int32


def test_explain_shows_what_dispatch_does_and_changes_nothing() -> None:
    made = dispatcher()
    made.view.flight = {"small": 40}  # type: ignore[attr-defined]
    before = made.explain(ask()).explanation()
    dispatched = made.dispatch(ask())
    assert made.explain(ask("other")).explanation() == before
    shown = {one["model"]: one for one in made.explain(ask()).candidates()}
    for i, name in enumerate(dispatched.observation.models):
        assert shown[name]["probability"] == dispatched.decision.probabilities[i]
        assert shown[name]["masked"] == (name in dispatched.reasons)
    assert shown["small"]["reason"] == "over its limit"
    assert shown["small"]["score"] is None
    assert before["policy"] == "priced"
    assert list(before) == ["policy", "profile", "epsilon", "caller", "candidates"]


def test_explain_answers_even_when_every_model_is_masked() -> None:
    shown = dispatcher(model("a", state=ReplicaState.COLD)).explain(ask()).candidates()
    assert [(one["model"], one["reason"], one["probability"]) for one in shown] == [("a", "unhealthy", 0.0)]


def test_a_named_model_is_taken_as_it_is() -> None:
    dispatched = dispatcher().dispatch(ask(requested="small"))
    assert dispatched.decision.model == "small"
    assert dispatched.decision.decider == NAMED
    assert dispatched.decision.propensity == 1.0
    assert dispatched.ranking == ()


def test_what_is_not_served_or_configured_is_named_in_the_error() -> None:
    made = dispatcher(profiles={"support": {}})
    with pytest.raises(
        UnknownModelError, match=r"Model 'gpt' is not served. Served: 'large', 'medium', 'small'."
    ):
        made.dispatch(ask(requested="gpt"))
    with pytest.raises(
        UnknownProfileError, match=r"Profile 'suport' is not configured. Configured: 'support'."
    ):
        made.dispatch(ask(requested="auto:suport"))


def test_a_model_whose_name_begins_with_auto_can_be_named() -> None:
    dispatched = dispatcher(model("autocoder"), model("b")).dispatch(ask(requested="autocoder"))
    assert dispatched.decision.decider == NAMED


def test_the_ranking_holds_the_other_allowed_models_best_first() -> None:
    dispatched = dispatcher().dispatch(ask(key_models=("large", "medium", "small")))
    order = [dispatched.decision.model, *dispatched.ranking]
    assert sorted(order) == ["large", "medium", "small"]
    p = dict(zip(dispatched.observation.models, dispatched.decision.probabilities, strict=True))
    assert p[order[1]] >= p[order[2]]


def test_preferences_move_the_choice() -> None:
    made = dispatcher(epsilon=0.0)
    for weights, best in (
        (Weights(5.0, 0.0, 0.0), "large"),
        (Weights(0.0, 5.0, 0.0), "small"),
        (Weights(0.0, 0.0, 5.0), "small"),
    ):
        assert made.dispatch(ask(weights=weights)).decision.model == best


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 4.0), st.floats(0.1, 4.0))
def test_more_weight_on_accuracy_never_lowers_the_expected_accuracy(start: float, more: float) -> None:
    made = dispatcher(epsilon=0.0)
    means = []
    for weight in (start, start + more):
        shown = made.explain(ask(weights=Weights(weight, 1.0, 0.0))).candidates()
        means.append(sum(float(one["probability"]) * float(one["accuracy"]) for one in shown))  # type: ignore[arg-type]
    assert means[1] >= means[0] - 1e-9


def test_a_queue_moves_the_choice() -> None:
    made = dispatcher(epsilon=0.0)
    asked = ask(weights=Weights(0.0, 1.0, 0.0), max_tokens=64)
    assert made.dispatch(asked).decision.model == "small"
    made.view.flight = {"small": 31}  # type: ignore[attr-defined]
    assert made.dispatch(asked).decision.model == "medium"


def test_a_profile_sets_weights_and_a_request_overrides_them() -> None:
    made = dispatcher(epsilon=0.0, profiles={"fast": {"weights": {"accuracy": 0.0, "latency": 5.0}}})
    assert made.dispatch(ask(requested="auto:fast")).decision.model == "small"
    overruled = made.dispatch(ask(requested="auto:fast", weights=Weights(9.0, 0.0, 0.0)))
    assert overruled.decision.model == "large"
    assert overruled.record.profile == "fast"


def test_new_settings_count_from_the_next_request() -> None:
    made = dispatcher(epsilon=0.0, weights={"accuracy": 9.0, "latency": 0.0})
    assert made.dispatch(ask()).decision.model == "large"
    made.reconfigure(
        DispatchSettings.model_validate({"epsilon": 0.0, "weights": {"accuracy": 0.0, "latency": 9.0}})
    )
    assert made.dispatch(ask()).decision.model == "small"


def test_exploration_is_at_most_epsilon_and_keeps_to_the_mask() -> None:
    made = dispatcher(
        *pool(), model("down", state=ReplicaState.DRAINING), epsilon=0.05, exploration={"usd_per_day": 1e9}
    )
    greedy = dispatcher(epsilon=0.0).dispatch(ask(weights=Weights(9.0, 0.0, 0.0))).decision.model
    others = 0
    for i in range(3_000):
        chosen = made.dispatch(ask(f"d{i}", weights=Weights(9.0, 0.0, 0.0), key_id="k")).decision.model
        assert chosen != "down"
        others += chosen != greedy
    assert 0 < others <= 0.05 * 3_000


def test_a_session_stays_with_its_model_while_that_is_healthy() -> None:
    made = dispatcher(beta=0.5, profiles={"chat": {"sticky": True}})
    first = {s: made.dispatch(ask("d0", "auto:chat", session=s)).decision.model for s in map(str, range(40))}
    assert len(set(first.values())) > 1
    made.view.flight = {"small": 20, "large": 5}  # type: ignore[attr-defined]
    for session, chosen in first.items():
        again = made.dispatch(ask("d1", "auto:chat", session=session))
        assert again.decision.model == chosen
        assert str(again.decision.decider) == "priced;sticky"
        assert again.decision.propensity == 1.0
        assert again.decision.probabilities.sum() == 1.0
        assert len(again.ranking) == 2
    moved = {s: made.dispatch(ask("d2", "auto:chat", session=s, models=("medium", "large"))) for s in first}
    for session, dispatched in moved.items():
        assert dispatched.decision.model == first[session] or first[session] == "small"


def test_a_budget_moves_a_session_for_good() -> None:
    made = dispatcher(epsilon=0.0, profiles={"paced": {"budget_usd": 2e-4, "sticky": True}})
    asked = ask("s0", "auto:paced", session="s", weights=Weights(1.0, 0.0, 0.0))
    assert made.dispatch(asked).decision.model == "large"
    for i, cost_usd in enumerate([1e-2] * 120 + [0.0] * 12_000):
        finish(made, made.dispatch(ask(f"d{i}", "auto:paced")), cost_usd=cost_usd)
        if i == 119:
            moved = made.dispatch(replace(asked, decision_id="s1"))
            assert moved.decision.model == "small"
            assert moved.reasons["large"] == "more than the profile's budget has left"
    stays = made.dispatch(replace(asked, decision_id="s2"))
    assert stays.decision.model == "small"
    assert "large" not in stays.reasons


def test_sessions_agree_across_ingress_replicas() -> None:
    one, two = (dispatcher(beta=0.5, profiles={"chat": {"sticky": True}}) for _ in range(2))
    for session in map(str, range(40)):
        asked = ask(f"d{session}", "auto:chat", session=session)
        assert (
            one.dispatch(asked).decision.model == two.dispatch(replace(asked, decision_id="x")).decision.model
        )


def test_a_new_model_gets_a_small_share_until_it_is_known() -> None:
    star = model("star", accuracy=1.0, tpot_s=0.001, requests=0)
    made = dispatcher(*pool(), star, epsilon=0.0)
    got = Counter(made.dispatch(ask(f"d{i}")).decision.model for i in range(2_000))
    assert 0 < got["star"] <= 0.07 * 2_000
    for known in (
        model("star", accuracy=1.0, tpot_s=0.001, requests=30),
        replace(star, accuracy=model("x", evaluated=1.0).accuracy),
    ):
        made.view.snapshot = snapshot(*pool(), known, version=known.requests + 2)  # type: ignore[misc]
        got = Counter(made.dispatch(ask(f"d{i}")).decision.model for i in range(200))
        assert got["star"] >= 190


def test_on_the_first_day_every_model_is_new_and_none_is_held_back() -> None:
    made = dispatcher(*(replace(row, requests=0) for row in pool()), epsilon=0.0)
    assert not any(made.dispatch(ask(f"d{i}")).reasons for i in range(50))


def test_an_active_policy_decides_and_a_shadow_is_logged() -> None:
    made = dispatcher()
    made.host.hold(7, Made((0.0, 0.0, 1.0)))
    made.host.hold(8, Made((1.0, 0.0, 0.0)))
    state = RolloutState(active=7, candidate=Candidate(8, Stage.SHADOW), yardstick_share=0.0)
    made.view.snapshot = snapshot(*pool(), version=2, rollout=state)  # type: ignore[misc]
    record = made.dispatch(ask()).record
    assert (record.model, record.policy, record.shadow) == ("small", "learned@7", "8:large")


def test_a_failing_policy_costs_no_request() -> None:
    made = dispatcher()
    made.host.hold(7, Made(error=RuntimeError("boom")))
    made.view.snapshot = snapshot(*pool(), version=2, rollout=RolloutState(active=7, yardstick_share=0.0))  # type: ignore[misc]
    for i in range(50):
        assert made.dispatch(ask(f"d{i}")).record.policy == "formula;fallback=error"
    assert made.host.fallbacks["error"] == 50


def test_the_log_keeps_whose_turn_it_was_apart_from_who_decided() -> None:
    made = dispatcher()
    made.host.hold(7, Made(error=RuntimeError("boom")))
    made.view.snapshot = snapshot(*pool(), version=2, rollout=RolloutState(active=7, yardstick_share=0.0))  # type: ignore[misc]
    record = made.dispatch(ask()).record
    assert (record.policy, record.assigned) == ("formula;fallback=error", 7)
    assert made.dispatch(ask("n", "small")).record.assigned is None
    made.view.snapshot = snapshot(*pool(), version=3)  # type: ignore[misc]
    assert made.dispatch(ask()).record.assigned == 0


def test_a_session_is_assigned_to_one_version_throughout() -> None:
    made = dispatcher(profiles={"chat": {"sticky": True}})
    rollout = RolloutState(active=8, yardstick_share=0.5)
    made.host.hold(8, Made((0.0, 0.0, 1.0)))
    made.view.snapshot = snapshot(*pool(), version=2, rollout=rollout)  # type: ignore[misc]
    turns = {
        session: {
            made.dispatch(ask(f"{session}-{i}", "auto:chat", session=session)).record.assigned
            for i in range(9)
        }
        for session in map(str, range(20))
    }
    assert all(len(assigned) == 1 for assigned in turns.values())
    assert set.union(*turns.values()) == {0, 8}


def test_a_policy_cannot_change_what_is_logged() -> None:
    class Forger(Made):
        def distribution(self, observation: Observation) -> np.ndarray:  # type: ignore[type-arg]
            observation.mask[:] = True
            observation.rows[:] = 0.0
            return np.ones(3) / 3

    made = dispatcher()
    made.host.hold(7, Forger())
    made.view.snapshot = snapshot(*pool(), version=2, rollout=RolloutState(active=7, yardstick_share=0.0))  # type: ignore[misc]
    record = made.dispatch(ask(models=("medium", "small"))).record
    assert record.policy == "formula;fallback=error"
    assert record.mask == (False, True, True)
    assert record.rows[1][0] == 1.0


def test_the_quality_model_replaces_the_estimate_where_it_knows_the_model() -> None:
    class Partial(MadeQuality):
        def predict(self, features: object, models: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg, override]
            mean = np.array([0.95 if name == "small" else np.nan for name in models])
            return mean, np.full(len(models), 0.01)

    made = dispatcher(epsilon=0.0)
    made.host.quality = Partial("q9")
    dispatched = made.dispatch(ask())
    assert dispatched.observation.column("accuracy").tolist() == [0.9, 0.75, 0.95]
    assert dispatched.record.quality_revision == "q9"


def test_a_spent_budget_leaves_the_cheapest_model() -> None:
    wall = Clock()
    made = dispatcher(wall=wall, guard={"key_usd_per_day": 0.01}, weights={"accuracy": 9.0, "latency": 0.0})
    first = made.dispatch(ask(key_id="k"))
    assert first.decision.model == "large"
    finish(made, first, cost_usd=0.02)
    after = made.dispatch(ask("e", key_id="k"))
    assert after.decision.model == "small"
    assert after.reasons["large"] == "key's daily budget is spent"
    assert made.dispatch(ask("f", key_id="other")).decision.model == "large"
    wall.now_s = NOW_S + 86_400.0
    assert made.dispatch(ask("g", key_id="k")).decision.model == "large"


def test_an_alarmed_key_gets_the_formula_without_the_quality_model() -> None:
    made = dispatcher(epsilon=0.0)
    for i in range(2_000):
        made.settlement.guard.chosen("k", float(i), 0.0, expensive=i % 50 == 0, explored=False)
    for i in range(120):
        made.settlement.guard.chosen("k", 2_000.0 + i, 0.0, expensive=True, explored=False)
    made.host.quality = MadeQuality("q1")
    record = made.dispatch(ask(key_id="k")).record
    assert (record.policy, record.quality_revision) == ("formula;fallback=alarm", "")
    assert made.dispatch(ask(key_id="calm")).record.policy == "priced"


def test_outcomes_move_the_weights_of_their_profile_only() -> None:
    made = dispatcher(
        epsilon=0.0, profiles={"cheap": {"budget_usd": 1e-5, "weights": {"accuracy": 1.0, "latency": 0.0}}}
    )
    for i in range(60):
        finish(made, made.dispatch(ask(f"d{i}", "auto:cheap")), cost_usd=1e-3)
    record = made.dispatch(ask("z", "auto:cheap")).record
    assert record.caller[2] > 0.0
    assert record.model == "small"
    assert made.dispatch(ask("y")).record.caller[2] == 0.0


def test_a_profile_spends_its_budget_and_not_more() -> None:
    made = dispatcher(
        epsilon=0.0,
        profiles={"paced": {"budget_usd": 2e-4, "weights": {"accuracy": 9.0, "latency": 0.0, "cost": 0.0}}},
    )
    spent, models, struck = 0.0, set(), set()
    for i in range(600):
        dispatched = made.dispatch(ask(f"d{i}", "auto:paced"))
        index = dispatched.decision.index
        cost_usd = float(dispatched.observation.column("cost_usd")[index])
        finish(made, dispatched, cost_usd=cost_usd)
        spent += cost_usd
        models.add(dispatched.decision.model)
        struck |= set(dispatched.reasons.values())
    assert spent / 600 <= 2e-4
    assert spent / 600 >= 0.7 * 2e-4
    assert len(models) > 1
    assert struck <= {"more than the profile's budget has left"}


def test_what_an_answer_cost_is_learned_of_the_model_that_gave_it() -> None:
    made = dispatcher(epsilon=0.0, profiles={"paced": {"budget_usd": 1e-3}})
    for i, (name, status, cost_usd) in enumerate(
        [("small", Status.OK, 5e-3), ("medium", Status.FAILED, 0.0), ("elsewhere", Status.OK, 9.0)]
    ):
        finish(made, made.dispatch(ask(f"d{i}", "auto:paced")), name, status=status, cost_usd=cost_usd)
    pacer = made.settlement.duals(made._profiles["auto:paced"]).pacer
    assert pacer is not None
    names = made.dispatch(ask("z", "auto:paced")).observation.models
    found = dict(zip(names, pacer.bias(len(names)), strict=True))
    assert found["small"] > 1.0
    assert [found[name] for name in names if name != "small"] == [1.0] * (len(names) - 1)
    assert (pacer.requests, pacer.spent_usd) == (1, 5e-3)


def test_outcomes_that_say_nothing_about_a_model_move_nothing() -> None:
    made = dispatcher(profiles={"cheap": {"budget_usd": 1e-9}})
    for i, status in enumerate((Status.CANCELLED, Status.REJECTED)):
        finish(made, made.dispatch(ask(f"d{i}", "auto:cheap")), "small", status=status, cost_usd=1.0)
    assert made.dispatch(ask("z", "auto:cheap")).record.caller[2] == 0.0


def test_dispatch_goes_on_while_the_table_is_silent() -> None:
    made = dispatcher()
    made.view.age = 1e6  # type: ignore[attr-defined]
    record = made.dispatch(ask()).record
    assert record.snapshot_age_s == 1e6


def test_the_record_holds_no_text_and_a_keyed_hash() -> None:
    record = dispatcher().dispatch(ask()).record
    assert record.text is None
    assert b"joke" not in record.features
    assert record.prompt_hash == dispatcher().dispatch(ask("other")).record.prompt_hash
    other = Dispatcher(View(snapshot(*pool())), DispatchSettings(), prompt_key=b"other")
    assert other.dispatch(ask()).record.prompt_hash != record.prompt_hash
