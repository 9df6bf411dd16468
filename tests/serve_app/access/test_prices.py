"""A price of 0 under a limit in dollars is an error that names both."""

from pathlib import Path

import pytest
import yaml

from deployments.keys.entries import KeyLimits
from deployments.keys.key import Key
from deployments.records.snapshot import ModelCard
from serve_app.access.prices import dollar_limit, unpriced, unpriced_in
from serve_app.config import IngressSettings

ROOT = Path(__file__).resolve().parents[3]
FREE = ModelCard("free", "simulated", "", 100)
DEAR = ModelCard("dear", "simulated", "", 100, completion_usd_per_mtok=1.0)


def key(**limits) -> Key:
    return Key("k", "web", frozenset({"infer"}), KeyLimits(**limits), "", team="t")


def test_without_a_dollar_limit_a_price_of_0_is_fine():
    assert unpriced([FREE, DEAR], [key(tokens_per_min=5)], IngressSettings()) == []
    others = {"teams": {"u": {"budget": {"usd": 1}}}, "dispatch": {"profiles": {"q": {"budget": {"usd": 1}}}}}
    assert dollar_limit(key(tokens_per_min=5), IngressSettings.model_validate(others), "p") == ""


@pytest.mark.parametrize(
    ("limits", "user_config", "named"),
    [
        ({"usd_per_day": 1.0}, {}, "'usd_per_day' of key 'web'"),
        ({"budget": {"usd": 1, "window": "2w"}}, {}, "'budget' of key 'web'"),
        ({}, {"teams": {"t": {"budget": {"usd": 1}}}}, "'budget' of team 't'"),
        ({}, {"dispatch": {"guard": {"key_usd_per_day": 1.0}}}, "'dispatch.guard.key_usd_per_day'"),
        ({}, {"dispatch": {"profiles": {"p": {"budget_usd": 0.1}}}}, "'budget_usd' of profile 'p'"),
        ({}, {"dispatch": {"profiles": {"p": {"budget": {"usd": 1}}}}}, "'budget' of profile 'p'"),
    ],
)
def test_every_limit_in_dollars_needs_a_price_of_each_model_under_it(limits, user_config, named):
    [(model, sentence)] = unpriced([FREE, DEAR], [key(**limits)], IngressSettings.model_validate(user_config))
    assert model == "free"
    assert sentence.startswith(named)
    assert "'free' has price 0" in sentence
    assert dollar_limit(key(**limits), IngressSettings.model_validate(user_config), "p") == named


def test_a_limit_that_leaves_the_free_model_out_is_fine():
    profile = {"dispatch": {"profiles": {"p": {"budget_usd": 0.1, "allowed": ["dear"]}}}}
    limited = key(usd_per_day=1.0, models=("dear",))
    assert unpriced([FREE, DEAR], [limited], IngressSettings.model_validate(profile)) == []


def test_a_config_is_refused_before_anything_is_deployed():
    document = {
        "applications": [
            {
                "name": "fastserve",
                "import_path": "serve_app.app:build",
                "deployments": [
                    {"name": "Ingress", "user_config": {"dispatch": {"guard": {"key_usd_per_day": 1.0}}}}
                ],
            },
            {"import_path": "serve_app.app:build_model", "args": {"id": "m", "engine": "simulated"}},
        ]
    }
    [(model, sentence)] = unpriced_in(document)
    assert (model, "'m' has price 0" in sentence) == ("m", True)
    priced = {"name": "Model", "user_config": {"price": {"completion_usd_per_mtok": 0.5}}}
    document["applications"][1]["deployments"] = [priced]
    assert unpriced_in(document) == []


def test_the_configs_of_this_project_are_fine():
    for path in ROOT.glob("*.yaml"):
        assert unpriced_in(yaml.safe_load(path.read_text())) == []
