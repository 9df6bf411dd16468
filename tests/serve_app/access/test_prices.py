"""A price of 0 under a limit in dollars is an error that names both."""

from pathlib import Path

import pytest
import yaml

from deployments.dispatch.settings import DispatchSettings
from deployments.records.snapshot import ModelCard
from serve_app.access.keys import Key
from serve_app.access.prices import require_prices, unpriced
from serve_app.config import KeyLimits

ROOT = Path(__file__).resolve().parents[3]
FREE = ModelCard("free", "simulated", "", 100)
DEAR = ModelCard("dear", "simulated", "", 100, completion_usd_per_mtok=1.0)


def key(**limits) -> Key:
    return Key("k", "web", frozenset({"infer"}), KeyLimits(**limits), "")


def test_without_a_dollar_limit_a_price_of_0_is_fine():
    assert unpriced([FREE, DEAR], [key(tokens_per_min=5)], DispatchSettings()) == []


@pytest.mark.parametrize(
    ("limits", "dispatch", "named"),
    [
        ({"usd_per_day": 1.0}, {}, "'usd_per_day' of key 'web'"),
        ({}, {"guard": {"key_usd_per_day": 1.0}}, "'dispatch.guard.key_usd_per_day'"),
        ({}, {"profiles": {"p": {"budget_usd": 0.1}}}, "'budget_usd' of profile 'p'"),
    ],
)
def test_every_limit_in_dollars_needs_a_price_of_each_model_under_it(limits, dispatch, named):
    [sentence] = unpriced([FREE, DEAR], [key(**limits)], DispatchSettings.model_validate(dispatch))
    assert sentence.startswith(named)
    assert "'free' has price 0" in sentence


def test_a_limit_that_leaves_the_free_model_out_is_fine():
    profile = {"profiles": {"p": {"budget_usd": 0.1, "allowed": ["dear"]}}}
    limited = key(usd_per_day=1.0, models=("dear",))
    assert unpriced([FREE, DEAR], [limited], DispatchSettings.model_validate(profile)) == []


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
    with pytest.raises(ValueError, match="model 'm' has price 0"):
        require_prices(document)
    document["applications"][1]["args"]["price"] = {"completion_usd_per_mtok": 0.5}
    require_prices(document)


def test_the_configs_of_this_project_are_fine():
    for path in ROOT.glob("*.yaml"):
        require_prices(yaml.safe_load(path.read_text()))
