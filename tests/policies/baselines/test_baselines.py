"""Baselines: each is a policy, and each does what its name says."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.baselines.simple import BestSinglePolicy, LeastLoadedPolicy
from policies.baselines.static_mix import StaticMixPolicy
from policies.decider import Decider
from policies.decision import Decision
from policies.observation import Observation
from policies.outcome import Outcome, Status, Transition
from policies.policy import Policy
from policies.utility import Weights
from scripts.benchmarks.baselines.blind import RandomPolicy, RoundRobinPolicy
from scripts.benchmarks.baselines.context import CONTEXT_SIZE, context, prompt_kind
from scripts.benchmarks.baselines.knn import KnnPolicy
from scripts.benchmarks.baselines.lin_ucb import LinUcbPolicy
from scripts.benchmarks.baselines.multi_factor import MultiFactorPolicy
from scripts.benchmarks.baselines.route_balance import RouteBalancePolicy
from scripts.benchmarks.baselines.static_latency import StaticLatencyPolicy
from scripts.benchmarks.baselines.task_label import TaskLabelPolicy
from scripts.benchmarks.baselines.thompson import ThompsonPolicy
from tests.policies.examples import observe

MAKERS: list[Callable[[], Policy]] = [
    RandomPolicy,
    RoundRobinPolicy,
    lambda: BestSinglePolicy({"a": 0.3, "b": 0.7}),
    LeastLoadedPolicy,
    lambda: StaticLatencyPolicy({"a": 0.01, "b": 0.05}),
    TaskLabelPolicy,
    KnnPolicy,
    LinUcbPolicy,
    ThompsonPolicy,
    MultiFactorPolicy,
    RouteBalancePolicy,
    lambda: StaticMixPolicy({"a": 0.25, "b": 0.75}),
]
CODE, TEXT = {"code_hint": 1.0, "prompt_tokens": 50.0}, {"prompt_tokens": 500.0}


def learned(
    policy: Policy, seen: Observation, model: int, quality: float | None, reward: float = 0.0
) -> None:
    """One outcome of one model."""
    chosen = np.eye(len(seen.models))[model]
    decision = Decision(model, seen.models[model], 1.0, chosen, Decider(policy.name), 0.0, 0)
    policy.learn(Transition(seen, decision, Outcome(Status.OK, quality=quality), reward))


def pick(policy: Policy, seen: Observation) -> str:
    return seen.models[int(policy.probabilities(seen).argmax())]


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("make", MAKERS)
@given(st.integers(1, 6), st.data())
def test_every_baseline_gives_a_distribution_over_the_mask(
    make: Callable[[], Policy], m: int, data: st.DataObject
) -> None:
    policy, unit = make(), st.floats(0.0, 1.0)
    mask = data.draw(st.lists(st.booleans(), min_size=m, max_size=m).filter(any))
    columns = {
        name: data.draw(st.lists(unit, min_size=m, max_size=m))
        for name in ("accuracy", "e2e_s", "cost_usd", "in_flight", "kv_use", "tpot_s")
    }
    weight = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=m, max_size=m))
    seen = observe(**columns, mask=mask, weight=weight)  # type: ignore[arg-type]
    for step in range(3):
        pi = policy.probabilities(seen, epsilon=0.05)
        assert abs(float(pi.sum()) - 1.0) < 1e-9
        assert not pi[~seen.mask].any()
        learned(policy, seen, int(pi.argmax()), 0.5, 0.5 * step)


@pytest.mark.parametrize("make", MAKERS)
def test_names_tell_baselines_apart(make: Callable[[], Policy]) -> None:
    names = Counter(maker().name for maker in MAKERS)
    assert names[make().name] == 1


def test_random_is_uniform_over_plausible_models() -> None:
    seen = observe([0.1, 0.5, 0.9], [1.0] * 3, weight=[1.0, 0.0, 1.0])
    assert RandomPolicy().probabilities(seen).tolist() == [0.5, 0.0, 0.5]


def test_round_robin_takes_turns_among_those_that_are_there() -> None:
    policy = RoundRobinPolicy()
    seen = observe([0.5] * 3, [1.0] * 3)
    assert [pick(policy, seen) for _ in range(4)] == ["a", "b", "c", "a"]
    one_less = observe([0.5] * 3, [1.0] * 3, mask=[True, False, True])
    assert sorted(pick(policy, one_less) for _ in range(2)) == ["a", "c"]


def test_best_single_takes_the_next_best_while_the_best_is_masked() -> None:
    policy = BestSinglePolicy({"a": 0.5, "b": 0.9, "c": 0.7})
    assert pick(policy, observe([0.5] * 3, [1.0] * 3)) == "b"
    assert pick(policy, observe([0.5] * 3, [1.0] * 3, mask=[True, False, True])) == "c"


def test_least_loaded_counts_load_per_slot_and_shares_ties() -> None:
    seen = observe([0.5] * 3, [1.0] * 3, in_flight=[4.0, 2.0, 8.0], slots=[8.0, 2.0, 16.0])
    assert LeastLoadedPolicy().probabilities(seen).tolist() == [0.5, 0.0, 0.5]


def test_the_static_prior_sees_no_queue() -> None:
    policy = StaticLatencyPolicy({"a": 0.01, "b": 0.1}, Weights(1.0, 1.0, 0.0))
    for e2e_s in ([1.0, 2.0], [100.0, 2.0]):
        assert pick(policy, observe([0.7, 0.8], e2e_s, prompt={"output_tokens": 100.0})) == "a"


def test_the_task_label_router_goes_by_the_kind_of_prompt() -> None:
    policy = TaskLabelPolicy()
    code, text = (observe([0.5, 0.5], [1.0, 1.0], prompt=prompt) for prompt in (CODE, TEXT))
    for _ in range(20):
        learned(policy, code, 0, 1.0)
        learned(policy, code, 1, 0.0)
        learned(policy, text, 0, 0.0)
        learned(policy, text, 1, 1.0)
        learned(policy, text, 0, None)
    assert (pick(policy, code), pick(policy, text)) == ("a", "b")
    given_scores = TaskLabelPolicy({"code": {"b": 0.9}, "text": {"b": 0.1}})
    assert (pick(given_scores, code), pick(given_scores, text)) == ("b", "a")


def test_kinds_of_prompts() -> None:
    assert prompt_kind(observe([0.5], [1.0])) == "text"
    assert prompt_kind(observe([0.5], [1.0], prompt={"code_hint": 1.0, "cjk_share": 0.6})) == "code+cjk"


def test_neighbours_with_the_same_hints_decide() -> None:
    policy = KnnPolicy(k=5, memory=20)
    code, text = (
        observe([0.5, 0.5], [1.0, 1.0], Weights(5.0, 1.0, 0.0), prompt=prompt) for prompt in (CODE, TEXT)
    )
    for _ in range(30):
        learned(policy, code, 0, 1.0)
        learned(policy, code, 1, 0.0)
        learned(policy, text, 0, 0.0)
        learned(policy, text, 1, 1.0)
    assert pick(policy, code) == "a"
    with pytest.raises(ValueError, match="k: 5"):
        KnnPolicy(k=5, memory=4)


def test_lin_ucb_finds_the_better_model_for_each_kind_of_prompt() -> None:
    policy, random = LinUcbPolicy(alpha=0.5), np.random.default_rng(0)
    code, text = (observe([0.5, 0.5], [1.0, 1.0], prompt=prompt) for prompt in (CODE, TEXT))
    for _ in range(300):
        for seen, good in ((code, 0), (text, 1)):
            chosen = int(policy.probabilities(seen).argmax())
            learned(policy, seen, chosen, None, float(chosen == good) + random.normal(0.0, 0.1))
    assert (pick(policy, code), pick(policy, text)) == ("a", "b")


def test_a_forgetting_lin_ucb_follows_a_change() -> None:
    policy, seen = LinUcbPolicy(alpha=0.3, forgetting=0.98), observe([0.5, 0.5], [1.0, 1.0])
    for good in (0, 1):
        for _ in range(400):
            chosen = int(policy.probabilities(seen).argmax())
            learned(policy, seen, chosen, None, float(chosen == good))
        assert pick(policy, seen) == "ab"[good]


def test_thompson_gives_the_chance_of_being_best() -> None:
    policy, seen = ThompsonPolicy(draws=2_000), observe([0.5, 0.5], [1.0, 1.0])
    assert np.allclose(policy.probabilities(seen), 0.5, atol=0.06)
    for _ in range(50):
        learned(policy, seen, 0, 0.9)
        learned(policy, seen, 1, 0.2)
    assert policy.probabilities(seen)[0] > 0.95
    for _ in range(2_000):
        learned(policy, seen, 0, 0.0)
        learned(policy, seen, 1, 0.2)
    assert pick(policy, seen) == "b"


def test_the_multi_factor_score_is_the_published_one() -> None:
    seen = observe(
        [0.9, 0.5, 0.6],
        [1.0] * 3,
        tpot_s=[0.04, 0.02, 0.03],
        cost_usd=[4.0, 2.0, 3.0],
        in_flight=[0.0, 10.0, 5.0],
    )
    assert np.allclose(MultiFactorPolicy().scores(seen), [0.5, 0.5, 0.25 * (0.25 + 0.5 + 0.5 + 0.5)])
    constant = MultiFactorPolicy({"a": 1.0, "b": 1.0, "c": 1.0}, (1.0, 0.0, 0.0, 0.0))
    assert np.allclose(constant.scores(seen), 0.5)


def test_the_route_balance_score_is_the_published_one() -> None:
    seen = observe([0.9, 0.5], [4.0, 1.0], cost_usd=[2e-3, 1e-3], kv_use=[0.5, 0.25])
    expected = [0.3 * 0.9, 0.3 * 0.5 + 0.2 * 0.5 + 0.3 * 0.75 + 0.2 * 0.5]
    assert np.allclose(RouteBalancePolicy().scores(seen), expected, atol=1e-6)


def test_the_static_mix_gives_its_shares_and_spreads_what_is_masked() -> None:
    policy = StaticMixPolicy({"a": 0.2, "b": 0.3, "c": 0.5})
    assert np.allclose(policy.probabilities(observe([0.5] * 3, [1.0] * 3)), [0.2, 0.3, 0.5])
    masked = observe([0.5] * 3, [1.0] * 3, mask=[True, True, False])
    assert np.allclose(policy.probabilities(masked), [0.4, 0.6, 0.0])
    unknown = observe([0.5] * 2, [1.0] * 2, models=("x", "y"))
    assert np.allclose(policy.probabilities(unknown), [0.5, 0.5])


def test_contexts_have_their_size_and_are_finite() -> None:
    x = context(observe([0.5, 0.6], [0.0, 1e9], Weights(0.0, 0.0, 0.0), in_flight=[0.0, 1e9]))
    assert x.shape == (2, CONTEXT_SIZE)
    assert np.isfinite(x).all()
