"""docs/evaluation.md says what is so: its examples parse, its profiles, keys and graders exist."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from deployments.evaluation.settings import EvaluatorSettings
from deployments.suites.graders import GRADERS
from serve_app.app import CompanionArgs, evaluator
from serve_app.routes.feedback import parse_feedback

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "evaluation.md").read_text()
BODIES: list[dict[str, Any]] = [json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", TEXT, re.DOTALL)]


def test_there_is_one_working_example_for_each_profile() -> None:
    document = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    endpoint = next(app for app in document["applications"] if app["name"] == "fastserve")
    ingress = next(one for one in endpoint["deployments"] if one["name"] == "Ingress")
    profiles = ingress["user_config"]["dispatch"]["profiles"]
    shown = [body["model"] for body in BODIES if "model" in body]
    assert sorted(shown) == sorted(f"auto:{profile}" for profile in profiles)


def test_the_vote_shown_is_a_vote() -> None:
    votes = [body for body in BODIES if "metric" in body]
    assert len(votes) == 1
    assert parse_feedback(votes[0] | {"decision_id": "d-1"}).score == 1.0


def test_every_grader_and_only_those_are_described() -> None:
    table = TEXT.partition("| grader | `answer` |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(GRADERS)


def test_every_setting_is_described_with_its_default() -> None:
    table = TEXT.partition("| key | default | meaning |")[2].partition("\n\n")[0]
    for name in EvaluatorSettings.model_fields:
        assert f"`{name}`" in table or f"`{name}." in table
    described = re.findall(r"`pace\.(\w+)` \| (\S+) \|", table)
    defaults = EvaluatorSettings().pace
    assert {name: str(getattr(defaults, name)).lower().removesuffix(".0") for name, _ in described} == dict(
        described
    )
    assert len(described) == len(type(defaults).model_fields)


def test_the_app_shown_can_be_deployed() -> None:
    (app,) = yaml.safe_load(TEXT.partition("```yaml\n")[2].partition("```")[0])
    CompanionArgs.model_validate(app["args"])
    settings = EvaluatorSettings.model_validate(app["deployments"][0]["user_config"])
    assert all(path.is_file() for path in settings.paths())
    module, _, name = app["import_path"].partition(":")
    assert (module, name) == (evaluator.__module__, evaluator.__name__)
