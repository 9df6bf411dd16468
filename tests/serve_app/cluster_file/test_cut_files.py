"""A good file that lost its end, at any line: refused, or every loss is shown and waits for a yes."""

import io
from functools import cache
from pathlib import Path

import pytest
import yaml

from serve_app.cluster_file import references
from serve_app.cluster_file.changes import changes
from serve_app.cluster_file.document import FileError, parse_document
from serve_app.cluster_file.validation import problems_of
from serve_app.commands.deploy import confirmed

ROOT = Path(__file__).resolve().parents[3]


def cuts(text: str) -> list[str]:
    """The file without its last lines, for every number of lines that leaves other content."""
    lines = text.splitlines(keepends=True)
    ends = [n for n in range(1, len(lines)) if any(one.split("#")[0].strip() for one in lines[n:])]
    return ["".join(lines[:n]) for n in ends]


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.gpu.yaml"])
def test_a_file_cut_at_any_line_is_refused_or_its_losses_are_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "load_suite", cache(references.load_suite))  # the same for every cut
    text = (ROOT / name).read_text()
    whole, refused, shown = yaml.safe_load(text), 0, 0
    for cut in cuts(text):
        try:
            document = parse_document(cut.encode())
        except FileError:
            refused += 1
            continue
        if problems_of(document):
            refused += 1
            continue
        planned = changes(whole, document.values)
        if not planned:  # what was cut says nothing: the name of a deployment without settings
            assert "user_config" not in text[len(cut) :], cut[-200:]
            assert "args" not in text[len(cut) :], cut[-200:]
            continue
        for change in planned:
            assert change.kind == "removed" or any("-> absent" in why for why in change.reasons), change
        shown += 1
    assert refused > 20
    assert shown > 20


def test_what_is_shown_is_not_applied_without_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # nobody sits there
    assert not confirmed(False)
    assert confirmed(True)
