"""`fastserve mix`: the mix, printed and as JSON."""

import json

import pytest

from policies.utility import Weights
from serve_app.cli import main
from serve_app.console.mix import PlannedModel, measured, plan_mix
from tests.deployments.pools import model, snapshot

TWO = ["--model", "a=0.9,0.1,0.001,4", "--model", "b=0.8,0.05,0.0001,20"]


def test_the_formulas_example_goes_to_b(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mix", "--demand", "10", "--weights", "2,1,0", "--json", *TWO]) == 0
    found = json.loads(capsys.readouterr().out)
    shares = {row["model"]: row["share"] for row in found["models"]}
    assert shares == {"a": 0.0, "b": 1.0}
    assert [round(row["utility"], 4) for row in found["models"]] == [2.3, 2.6]


def test_demand_beyond_the_capacity_is_told_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mix", "--demand", "48", *TWO]) == 1
    assert "24 of 48 requests/s find no room" in capsys.readouterr().out


def test_a_budget_limits_the_mean_cost() -> None:
    models = [PlannedModel("a", 0.9, 1.0, 1e-3, 99.0), PlannedModel("b", 0.1, 1.0, 1e-5, 99.0)]
    found = plan_mix(models, 1.0, Weights(1.0, 0.0, 0.0), budget_usd=2e-4)
    assert found["cost_usd"] == pytest.approx(2e-4)


def test_a_weight_of_0_takes_a_model_out() -> None:
    models = [PlannedModel("a", 0.9, 1.0, 0.0, 99.0, weight=0.0), PlannedModel("b", 0.1, 1.0, 0.0, 99.0)]
    assert plan_mix(models, 1.0, Weights())["models"][0]["share"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--demand", "0", *TWO], "Demand 0.0"),
        (["--demand", "1", "--weights", "1,1", *TWO], "Weights '1,1'"),
        (["--demand", "1", "--model", "a=1,2"], "Model 'a=1,2'"),
        (["--demand", "1", "--model", "a=0.9,0.1,-1,4"], "Model 'a=0.9,0.1,-1,4'"),
    ],
)
def test_unusable_arguments_are_named(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mix", *arguments]) == 1
    assert complaint in capsys.readouterr().err


def test_the_table_gives_measured_numbers_and_capacity() -> None:
    rows = measured(snapshot(model("a", evaluated=0.7, usd=1.0, tpot_s=0.1, slots=8)), prompt_tokens=100.0)
    assert [row.model for row in rows] == ["a"]
    assert rows[0].accuracy == 0.7
    assert rows[0].latency_s == pytest.approx(0.1 + 63 * 0.1, rel=0.01)
    assert rows[0].cost_usd == pytest.approx(164e-6, rel=0.01)
    assert 0.0 < rows[0].capacity_per_s < 8 / rows[0].latency_s
