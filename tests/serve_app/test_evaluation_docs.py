"""docs/evaluation.md says what is so: its examples parse, its profiles, keys and graders exist."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from deployments.evaluation.settings import EvaluatorSettings
from deployments.suites.graders import GRADERS
from deployments.suites.suite import load_suite
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


def test_the_deployment_shown_is_the_one_that_is_shipped() -> None:
    (shown,) = yaml.safe_load(TEXT.partition("```yaml\n")[2].partition("```")[0])
    document = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    endpoint = next(app for app in document["applications"] if app["name"] == "fastserve")
    assert shown in endpoint["deployments"]
    assert endpoint["args"]["evaluator"] is True
    assert all(path.is_file() for path in EvaluatorSettings.model_validate(shown["user_config"]).paths())


def test_the_suite_shown_loads(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "write-a-suite.md").read_text()
    file = tmp_path / "mine.jsonl"
    file.write_text(page.partition("```json\n")[2].partition("```")[0])
    assert {item.grader for item in load_suite(file).items} == {"label", "number", "json_schema"}
