"""Suites load as written; what is wrong is named by file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from deployments.suites.item import language_of
from deployments.suites.suite import MAX_LINE_BYTES, SuiteError, load_suite

ROW: dict[str, Any] = {"task": "sum", "prompt": "1+1?", "answer": "2", "grader": "number", "max_tokens": 8}


def write(path: Path, *rows: object) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def test_plain_and_gzipped_files_give_the_same_suite(tmp_path: Path) -> None:
    plain = load_suite(write(tmp_path / "s.jsonl", ROW, "", {**ROW, "prompt": "1+2?"}))
    packed = load_suite(write(tmp_path / "s.jsonl.gz", ROW, {**ROW, "prompt": "1+2?"}))
    assert plain == packed
    assert (plain.name, len(plain.items), plain.tasks()) == ("s", 2, ("sum",))


def test_the_revision_follows_content_and_not_order_or_remarks(tmp_path: Path) -> None:
    other = {**ROW, "prompt": "1+2?", "answer": "3"}
    base = load_suite(write(tmp_path / "s.jsonl", ROW, other)).revision
    assert load_suite(write(tmp_path / "s.jsonl", other, {**ROW, "source": "ours"})).revision == base
    assert load_suite(write(tmp_path / "s.jsonl", ROW, {**other, "answer": "4"})).revision != base
    assert load_suite(write(tmp_path / "s.jsonl", ROW)).revision != base


def test_an_id_is_kept_and_without_one_the_content_names_the_item(tmp_path: Path) -> None:
    named, unnamed = load_suite(write(tmp_path / "s.jsonl", {**ROW, "id": "sum-0"}, ROW)).items
    assert named.id == "sum-0"
    assert unnamed.id == unnamed.digest()


def test_extra_keys_are_kept_and_the_language_is_seen_or_said(tmp_path: Path) -> None:
    rows = [
        {**ROW, "source": "x", "licence": "MIT"},
        {**ROW, "prompt": "一加一等于几？"},
        {**ROW, "id": "3", "language": "zh"},
    ]
    first, second, third = load_suite(write(tmp_path / "s.jsonl", *rows)).items
    assert first.extra == {"source": "x", "licence": "MIT"}
    assert (first.language, second.language, third.language) == ("en", "zh", "zh")


def test_messages_may_stand_for_the_prompt(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "prompt"}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert load_suite(write(tmp_path / "s.jsonl", {**row, "messages": messages})).items[0].messages == tuple(
        messages
    )


def test_a_chinese_question_with_latin_options_is_chinese() -> None:
    assert language_of("选择意图：refund, delivery。我想退款，因为商品坏了。") == "zh"
    assert language_of("Translate 你好 into English, please.") == "en"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "Expecting"),
        ("[]", "must be a JSON object"),
        ("[" * 5000, "nested too deeply"),
        ({k: v for k, v in ROW.items() if k != "task"}, "'task' is missing"),
        ({**ROW, "task": ""}, "'task'"),
        ({**ROW, "messages": []}, "either 'prompt' or 'messages'"),
        (
            {k: v for k, v in ROW.items() if k != "prompt"} | {"messages": [{"role": "user"}]},
            "'role' and 'content'",
        ),
        ({k: v for k, v in ROW.items() if k != "answer"}, "'answer' is missing"),
        ({**ROW, "answer": "many"}, "must be a number"),
        ({**ROW, "grader": "guess"}, "Grader 'guess' is not known. Known: choice"),
        ({**ROW, "max_tokens": 0}, "'max_tokens'"),
        ({**ROW, "max_tokens": True}, "'max_tokens'"),
        ({**ROW, "max_tokens": "8"}, "'max_tokens'"),
        ({**ROW, "choices": "ab"}, "'choices'"),
        (ROW, "is already on line 1"),
        (json.dumps({**ROW, "prompt": "x" * MAX_LINE_BYTES}), "longer than"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, row: object, says: str) -> None:
    path = write(tmp_path / "bad.jsonl", ROW, "", row)
    with pytest.raises(SuiteError) as error:
        load_suite(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert says in str(error.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    empty = write(tmp_path / "e.jsonl", "")
    with pytest.raises(SuiteError, match="no items"):
        load_suite(empty)
    cut = tmp_path / "c.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(ROW).encode() * 50)[:40])
    with pytest.raises(SuiteError, match=r"c\.jsonl\.gz:1: the gzip file is damaged or incomplete"):
        load_suite(cut)
    latin = tmp_path / "l.jsonl"
    latin.write_bytes(json.dumps(ROW).encode() + b"\n\xff\xfe")
    with pytest.raises(SuiteError, match=r"l\.jsonl:2: not UTF-8"):
        load_suite(latin)
    with pytest.raises(FileNotFoundError):
        load_suite(tmp_path / "none.jsonl")
