"""The page's own files: words for everything in both languages, and nothing from another host."""

import json
import re
from pathlib import Path

import pytest

import serve_app.dashboard
from deployments.dispatch.masks import Reason
from deployments.records.snapshot import ReplicaState
from policies.outcome import Status
from policies.promotion.rollout import Stage
from serve_app.dashboard.learning import MARKS
from serve_app.dashboard.router import VIEWS
from serve_app.dashboard.static_files import StaticFiles

ROOT = Path(serve_app.dashboard.__file__).parent / "static"
SCRIPTS = sorted(ROOT.rglob("*.js"))
WORDS = {name: json.loads((ROOT / f"words.{name}.json").read_text()) for name in ("en", "zh")}
BLANK = re.compile(r"\{\w+\}")


def test_both_languages_have_the_same_words_with_the_same_blanks() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for name, text in WORDS["en"].items():
        assert sorted(BLANK.findall(text)) == sorted(BLANK.findall(WORDS["zh"][name])), name


def test_every_value_that_the_page_names_has_words() -> None:
    wanted = [f"reason.{reason.value}" for reason in Reason]
    wanted += [f"state.{state.value}" for state in ReplicaState]
    wanted += [f"{part}.{status.value}" for part in ("status",) for status in Status] + ["status.open"]
    wanted += [f"decision.end-{status.value}" for status in Status] + ["decision.end-open"]
    wanted += [f"stage.{stage.value}" for stage in Stage]
    wanted += [f"event.{kind}" for kind in (*MARKS, "trained", "verdict")]
    wanted += [f"view.{view}" for view in VIEWS]
    assert [name for name in wanted if name not in WORDS["en"]] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_word_that_a_script_names_is_there(path: Path) -> None:
    named = re.findall(r"\b(?:t|fact)\('([^'{]+)'", path.read_text())
    assert [name for name in named if name not in WORDS["en"]] == []


@pytest.mark.parametrize(
    "path", [*SCRIPTS, *ROOT.rglob("*.html"), *ROOT.rglob("*.css")], ids=lambda p: p.name
)
def test_nothing_comes_from_another_host_and_nothing_is_inline(path: Path) -> None:
    text = path.read_text()
    addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]+", text)) - {"http://www.w3.org"}
    assert addresses == set()
    for forbidden in ("innerHTML", "eval(", "new Function", " style=", "<script>", "javascript:"):
        assert forbidden not in text


def test_all_files_of_the_package_are_served() -> None:
    names = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*")}
    assert set(StaticFiles().names) == names
