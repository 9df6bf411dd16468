"""`fastserve forget`: which key is meant, and what is asked of the table."""

import contextlib
import json

import pytest
from click.testing import CliRunner

from deployments.home import first_key_file, key_file
from serve_app.access.key_admin import KeyAdmin
from serve_app.commands import forget
from serve_app.console import connection
from serve_app.console.errors import CommandError


class Table:
    def __init__(self):
        self.asked = []

    async def forget(self, key_id, decision_id, by):
        self.asked.append((key_id, decision_id))
        return {"decisions": 2, "outcomes": 1, "feedback": 0}


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSERVE_HOME", str(tmp_path))
    KeyAdmin(key_file(), first_key_file()).create("web")
    made = Table()
    monkeypatch.setattr(connection, "connected", lambda address: contextlib.nullcontext(made))
    return made


def call(*words, **options):
    return CliRunner().invoke(forget.command, words, catch_exceptions=False, **options)


def test_a_key_is_known_by_its_name_and_a_revoked_one_by_its_id(table):
    [web] = [
        entry.identity for entry in KeyAdmin(key_file(), first_key_file()).entries() if entry.name == "web"
    ]
    done = call("--key", "web", "--yes", "--json")
    assert json.loads(done.stdout) == {"decisions": 2, "outcomes": 1, "feedback": 0}
    assert call("--key", "0123456789ab", "--yes").exit_code == 0
    assert call("--decision", "d-1", "--yes").exit_code == 0
    assert table.asked == [(web, ""), ("0123456789ab", ""), ("", "d-1")]


@pytest.mark.parametrize("words", [(), ("--key", "web", "--decision", "d"), ("--key", "none", "--yes")])
def test_who_is_meant_must_be_clear(table, words):
    with pytest.raises(CommandError):
        CliRunner().invoke(forget.command, words, catch_exceptions=False, standalone_mode=False)
    assert table.asked == []


def test_without_a_yes_nothing_is_deleted(table):
    with pytest.raises(CommandError, match="Nothing was deleted"):
        call("--key", "web", input="n\n", standalone_mode=False)
    assert table.asked == []
