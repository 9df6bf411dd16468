"""Hard constraints, one by one and all together."""

from dataclasses import replace

import numpy as np
import pytest

from deployments.dispatch.dispatcher import Dispatcher
from deployments.dispatch.masks import Mask, NoModelError, Reason, keep_probation
from deployments.dispatch.settings import DispatchSettings
from deployments.records.snapshot import Estimate, ModelRow, ReplicaState
from policies.arrays import F64
from policies.prompt.features import PromptFeatures
from tests.deployments.dispatch.asking import ask
from tests.deployments.dispatch.dispatchers import MadeQuality
from tests.deployments.pools import View, model, snapshot


def reasons(*rows: ModelRow, settings: DispatchSettings | None = None, **fields: object) -> dict[str, str]:
    """Why which model is masked for one request."""
    return Dispatcher(View(snapshot(*rows)), settings or DispatchSettings()).explain(ask(**fields)).reasons


@pytest.mark.parametrize(
    ("row", "fields", "reason"),
    [
        (model("x", state=ReplicaState.DRAINING), {}, Reason.UNHEALTHY),
        (model("x", weight=0.0), {}, Reason.WEIGHT),
        (model("x", context_tokens=64), {"max_tokens": 60, "tokens": 10}, Reason.CONTEXT),
        (model("x", context_tokens=64), {"text": "word " * 200}, Reason.CONTEXT),
        (model("x"), {"needs": frozenset({"tools"})}, Reason.CAPABILITY),
        (model("x"), {"key_models": ("a",)}, Reason.NOT_ALLOWED),
        (model("x"), {"models": ("a",)}, Reason.NOT_ALLOWED),
        (model("x", tpot_s=2.0), {"max_latency_s": 30.0}, Reason.LATENCY),
        (model("x", usd=100.0), {"max_cost_usd": 1e-3}, Reason.COST),
    ],
)
def test_each_constraint_masks_with_its_reason(
    row: ModelRow, fields: dict[str, object], reason: Reason
) -> None:
    able = model("a", capabilities=frozenset({"chat", "tools"}), usd=0.1)
    assert reasons(able, row, **fields) == {"x": reason.value}


def test_a_model_with_too_much_in_flight_is_over_its_limit() -> None:
    view = View(snapshot(model("a", slots=2), model("b")))
    dispatcher = Dispatcher(view, DispatchSettings.model_validate({"limits": {"in_flight_per_slot": 2.0}}))
    request = ask()
    view.flight = {"a": 3}
    assert not dispatcher.dispatch(request).reasons
    view.flight = {"a": 4}
    assert dispatcher.dispatch(request).reasons == {"a": Reason.OVER_LIMIT.value}
    view.flight = {"a": 4, "b": 100}  # all are full: who may wait is not for dispatch to say
    assert not dispatcher.dispatch(request).reasons
    assert dispatcher.dispatch(ask(requested="a")).decision.model == "a"


def test_the_quality_floor_masks_by_evaluation_and_leaves_the_unknown() -> None:
    settings = DispatchSettings.model_validate({"profiles": {"good": {"quality_floor": 0.6}}})
    rows = (model("bad", evaluated=0.4), model("good", evaluated=0.8), model("unknown", accuracy=0.1))
    assert reasons(*rows, settings=settings, requested="auto:good") == {"bad": Reason.QUALITY.value}


class Told(MadeQuality):
    """Predicts .3 of the first model and .8 of the others, and asks for .6."""

    least: float | None = 0.6

    def predict(self, features: PromptFeatures, models: tuple[str, ...]) -> tuple[F64, F64]:
        return np.array([0.3] + [0.8] * (len(models) - 1)), np.full(len(models), 0.1)

    def least_prediction(self, models: tuple[str, ...], floor: float, alpha: float) -> float | None:
        assert (floor, alpha) == (0.5, 0.1)
        return self.least


@pytest.mark.parametrize(
    ("least", "masked"),
    [(0.6, {"a"}), (0.9, {"a"}), (np.inf, {"a"}), (0.1, set()), (None, set())],
)
def test_a_floor_with_alpha_masks_by_what_is_predicted_of_this_prompt(
    least: float | None, masked: set[str]
) -> None:
    profile = {"quality_floor": 0.5, "alpha": 0.1}
    settings = DispatchSettings.model_validate({"profiles": {"p": profile}})
    rows = (model("a", evaluated=0.9), model("b", evaluated=0.2))
    dispatcher = Dispatcher(View(snapshot(*rows)), settings)
    dispatcher.host.quality = quality = Told("r")
    quality.least = least
    found = dispatcher.explain(ask(requested="auto:p")).reasons
    assert found == dict.fromkeys(masked, Reason.FLOOR.value)
    assert dispatcher.host.fallbacks["floor"] == (least is None)
    assert dispatcher.host.fallbacks["floor unreachable"] == (least == np.inf)


def test_the_quality_floor_looks_at_the_profiles_own_tasks() -> None:
    settings = DispatchSettings.model_validate(
        {"profiles": {"p": {"quality_floor": 0.6, "tasks": ["intent", "entity"]}}}
    )
    scores = {
        "": Estimate(0.9, 0.8, 1.0, 300),
        "intent": Estimate(0.8, 0.7, 0.9, 30),
        "entity": Estimate(0.2, 0.1, 0.3, 60),
    }
    rows = (replace(model("a"), accuracy=scores), model("b", evaluated=0.1))
    assert reasons(*rows, settings=settings, requested="auto:p") == {"a": Reason.QUALITY.value}


def test_a_profile_allows_only_its_models() -> None:
    settings = DispatchSettings.model_validate({"profiles": {"p": {"allowed": ["b"]}}})
    assert reasons(model("a"), model("b"), settings=settings, requested="auto:p") == {"a": "not allowed"}


def test_a_named_model_keeps_its_hard_limits_and_forgets_its_weight() -> None:
    assert reasons(model("a"), model("b", weight=0.0), requested="b") == {"a": Reason.NOT_NAMED.value}
    dispatcher = Dispatcher(View(snapshot(model("a", context_tokens=8))), DispatchSettings())
    with pytest.raises(NoModelError) as caught:
        dispatcher.dispatch(ask("d", "a", "hello " * 20, max_tokens=100))
    assert caught.value.reasons == {"a": "context too short"}


def test_a_limit_over_a_models_context_does_not_bind_it() -> None:
    pool = (model("short", context_tokens=64), model("long", context_tokens=4096))
    assert reasons(*pool, max_tokens=200) == {}
    assert reasons(*pool, max_tokens=200, requested="short") == {"long": Reason.NOT_NAMED.value}
    assert reasons(*pool, max_tokens=63, tokens=2) == {"short": Reason.CONTEXT.value}
    assert reasons(*pool, max_tokens=2**64 - 1) == {}


@pytest.mark.parametrize(
    "text",
    [
        "0123456789abcdef" * 110,
        " " * 1_500 + "x",
        "        self.assertEqual(result['value'], expected)\n" * 40,
        "请把这句话翻译成英文" * 100,
        "السلام عليكم " * 100,
    ],
)
def test_no_model_is_masked_for_a_prompt_that_may_fit(text: str) -> None:
    assert reasons(model("short", context_tokens=512), model("long", context_tokens=8192), text=text) == {}


def test_several_prompts_need_the_room_of_the_longest() -> None:
    embedder = model("e", context_tokens=64, capabilities=frozenset({"embeddings"}))
    wanted = {"needs": frozenset({"embeddings"}), "max_tokens": 0}
    assert reasons(embedder, text="word " * 1_000, longest="word " * 10, **wanted) == {}
    assert reasons(embedder, tokens=1_000, longest_tokens=64, **wanted) == {}
    assert reasons(embedder, tokens=1_000, longest_tokens=65, **wanted) == {"e": Reason.CONTEXT.value}


def test_what_will_not_pass_by_waiting_is_the_reason_of_an_unhealthy_model() -> None:
    cold = model("x", state=ReplicaState.COLD, context_tokens=64)
    assert reasons(cold, text="word " * 200) == {"x": Reason.CONTEXT.value}
    assert reasons(cold, text="longish " * 50) == {"x": Reason.CONTEXT.value}  # likely, though not certain
    assert reasons(cold, needs=frozenset({"vision"})) == {"x": Reason.CAPABILITY.value}
    assert reasons(cold) == {"x": Reason.UNHEALTHY.value}


def test_when_nothing_is_left_the_error_says_why_for_each() -> None:
    view = View(snapshot(model("a", state=ReplicaState.COLD), model("b", weight=0.0)))
    with pytest.raises(NoModelError, match="'a': unhealthy, 'b': weight is 0"):
        Dispatcher(view, DispatchSettings()).dispatch(ask())
    with pytest.raises(NoModelError, match="the pool is empty"):
        Dispatcher(View(snapshot()), DispatchSettings()).dispatch(ask())


def test_probation_shows_a_new_model_to_its_share_only() -> None:
    shown = 0
    for seed in range(4_000):
        mask = Mask(("a", "b"), np.ones(2, dtype=bool), {})
        keep_probation(mask, np.array([False, True]), 0.05, seed)
        shown += bool(mask.allowed[1])
    assert 0.03 < shown / 4_000 < 0.07


def test_probation_leaves_a_new_model_that_is_alone() -> None:
    mask = Mask(("a", "b"), np.array([False, True]), {"a": "unhealthy"})
    keep_probation(mask, np.array([False, True]), 0.0, 1)
    assert mask.allowed.tolist() == [False, True]


def test_a_drained_model_gets_no_request_by_name_or_by_auto() -> None:
    settings = DispatchSettings.model_validate({"limits": {"drained": ["b"]}})
    rows = (model("a"), model("b"))
    assert reasons(*rows, settings=settings) == {"b": Reason.DRAINED.value}
    assert reasons(*rows, settings=settings, requested="b") == {
        "a": "another model was named",
        "b": Reason.DRAINED,
    }
