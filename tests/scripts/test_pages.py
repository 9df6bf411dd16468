"""Pages that scripts write must be what the scripts would write now."""

import json
import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter

from scripts import config_page, metrics_page, performance, readme, reliability, results, rooms

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(autouse=True)
def _in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_configuration_page_is_up_to_date() -> None:
    assert config_page.PAGE.read_text() == config_page.page()


def test_the_page_of_metrics_is_up_to_date() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.page()


def test_the_page_of_promises_is_up_to_date() -> None:
    assert reliability.PAGE.read_text() == reliability.page()


def test_the_page_of_costs_is_up_to_date() -> None:
    assert performance.PAGE.read_text() == performance.page()


def test_the_page_of_rooms_is_up_to_date() -> None:
    assert rooms.PAGE.read_text() == rooms.page()


def test_every_setting_has_a_meaning() -> None:
    settings = list(config_page.all_rows())
    assert len(settings) > 150
    assert [row.key for row in settings if not row.meaning] == []


def test_every_setting_has_an_example() -> None:
    assert [row.key for row in config_page.all_rows() if row.example in ("none", "empty", "required")] == []


def test_every_example_of_a_setting_is_valid() -> None:
    kinds = [kind for part in config_page.PARTS for kind in config_page.kinds(part.kind)]
    fields = [field for kind in kinds for field in kind.model_fields.values() if field.examples]
    assert len(fields) > 10
    for field in fields:
        for example in field.examples or ():
            TypeAdapter(Annotated[field.annotation, field]).validate_python(example)


def test_no_setting_shows_a_value_as_python_writes_it() -> None:
    written = [f"{row.type} {row.default} {row.example}" for row in config_page.all_rows()]
    assert [text for text in written if re.search(r"\bNone\b|\bTrue\b|\bFalse\b|\(\)|frozenset", text)] == []


def test_the_results_page_is_up_to_date() -> None:
    assert results.PAGE.read_text() == results.page()


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_a_readme_shows_the_table_as_it_was_printed(page: Path) -> None:
    assert readme.updated(page.read_text()) == page.read_text()


def test_both_readmes_have_the_same_commands_links_and_code() -> None:
    english, chinese = (page.read_text() for page in READMES)
    for pattern in (
        r"^scripts/\S+(?: --check)?",
        r"\]\((docs/[^)\s]+|benchmarks/[^)\s]*)\)",
        r"`(x-fastserve-[a-z-]+)`",
    ):
        assert re.findall(pattern, english, re.M) == re.findall(pattern, chinese, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_accepted_results_have_the_fixed_form() -> None:
    for path, document in results.results():
        assert {"name", "command", "git", "machine", "bars", "results"} <= document.keys(), path
        for one in document["bars"]:
            assert one.keys() == {"name", "value", "spread", "op", "bar", "passed"}, path
            assert all(isinstance(one[key], int | float) for key in ("value", "spread", "bar")), path
        assert "/home/" not in json.dumps(document["command"]), path
