"""`fastserve keys` edits the keys of the home, and a price of 0 under a dollar limit stops `prepare`."""

import pytest

from deployments.keys.file import read_key_file
from deployments.keys.key import by_digest
from serve_app.access.keys import KeyRing
from serve_app.cli import main
from tests.serve_app.fixed_keys import FixedKeys


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSERVE_HOME", str(tmp_path))
    monkeypatch.delenv("FASTSERVE_API_KEY", raising=False)
    return tmp_path


def found(home, secret):
    view = FixedKeys(by_digest(read_key_file(home / "keys.yaml").keys))
    return KeyRing(view).find(f"Bearer {secret}".encode())


def test_a_key_is_created_listed_rotated_and_revoked(home, capsys):
    created = ["keys", "create", "web", "--role", "read", "--usd-per-day", "2", "--expires", "2099-01-31"]
    assert main(created) == 0
    first = capsys.readouterr().out.strip()
    assert (found(home, first).roles, found(home, first).limits.usd_per_day) == ({"read"}, 2.0)
    assert main(["keys", "list"]) == 0
    assert "2099-01-31" in capsys.readouterr().out
    assert main(["keys", "rotate", "web", "--overlap-s", "0"]) == 0
    second = capsys.readouterr().out.strip()
    assert found(home, first) is None
    main(["keys", "create", "other"])
    assert main(["keys", "revoke", "web"]) == 0
    assert found(home, second) is None


@pytest.mark.parametrize(
    "arguments", [["rotate", "none"], ["create", "a b"], ["create", "x", "--role", "root"]]
)
def test_what_cannot_be_done_is_said(arguments, capsys):
    assert main(["keys", *arguments]) == 1
    assert "fastserve keys:" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["list", "create"])
def test_a_node_whose_head_is_elsewhere_edits_no_file_that_nobody_reads(action, home, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    assert main(["keys", action, "web"]) == 1
    assert "belongs to the cluster of '192.0.2.1'" in capsys.readouterr().err
    assert not (home / "keys.yaml").exists()
    monkeypatch.setenv("RAY_ADDRESS", "localhost:6379")
    assert main(["keys", action, "web"]) == 0


def test_a_config_with_a_free_model_under_a_dollar_limit_is_refused(home, capsys):
    main(["keys", "create", "web", "--usd-per-day", "1"])
    config = home / "cluster.yaml"
    config.write_text(
        "applications:\n- import_path: serve_app.app:build_model\n  args: {id: m, engine: simulated}\n"
    )
    assert main(["prepare", str(config)]) == 3
    assert "model 'm' has price 0" in capsys.readouterr().err
