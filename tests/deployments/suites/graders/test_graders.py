"""Every grader on right, wrong, empty and hostile answers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.suites import graders
from deployments.suites.graders import choice, label, number
from deployments.suites.graders.grade import MAX_ANSWER_CHARACTERS
from deployments.suites.item import Item

OPTIONS = ("hen", "egg", "rooster")
SCHEMA = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"const": "Li Wei"}, "age": {"type": "integer"}},
    "additionalProperties": False,
}
ADD_TEST = "def check(candidate):\n    assert candidate(2, 3) == 5\n    assert candidate(-1, 1) == 0\n"


def item(grader: str, answer: object = "", choices: tuple[str, ...] = (), **extra: object) -> Item:
    made = Item(
        "1", "t", ({"role": "user", "content": "?"},), answer, grader, 16, choices=choices, extra=extra
    )
    graders.check(made)
    return made


CHOICE = item("choice", "B", OPTIONS)
LABEL = item("label", "credit cards", ("banking", "credit cards", "cards"))
NUMBER = item("number", "1250")
JSON = item("json_schema", SCHEMA)
CODE = item("unit_test", "", test=ADD_TEST, entry_point="add", stub="def add(a, b):\n")
EVERY = [
    CHOICE,
    LABEL,
    NUMBER,
    JSON,
    CODE,
    item("exact", "We sing songs."),
    item("contains", ["The Horns of Nimon", "Nimon"]),
    item("regex", r"(?i)^paris\b"),
    item("chrf", "The cat sat on the mat."),
    item("chrf50", "The cat sat on the mat."),
    item("rouge", "The cat sat on the mat."),
]


def score(graded: Item, text: str) -> float:
    return graders.grade(graded, text).score


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        "(B)",
        "**B**",
        "B.",
        "B) egg",
        "B: because",
        "egg",
        "Egg.",
        "The answer is B.",
        "答案是B",
        "答案：（B）",
        "I choose option B",
        "The correct answer is: **B**",
        "It must be B",
        "<think>A or C?</think>B",
    ],
)
def test_choice_takes_the_right_letter_however_it_is_said(text: str) -> None:
    assert score(CHOICE, text) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "C. rooster",
        "A hen, B egg or C rooster",
        "hen",
        "D",
        "Both A and B",
        "ABC",
        "I think it is a bird",
        "A chicken comes out",
        "Be careful",
        "",
    ],
)
def test_choice_refuses_wrong_several_and_none(text: str) -> None:
    assert score(CHOICE, text) == 0.0


def test_the_article_and_the_pronoun_are_no_letters() -> None:
    many = item("choice", "A", tuple("abcdefghij"))
    assert choice.chosen_letter(many, "A hen sits there") is None
    assert choice.chosen_letter(many, "I think so") is None
    assert choice.chosen_letter(many, "A") == "A"


def test_options_that_are_only_said_again_choose_none() -> None:
    echo = "A. hen\nB. egg\nC. rooster"
    assert choice.chosen_letter(item("choice", "A", OPTIONS), echo) is None
    assert choice.chosen_letter(item("choice", "A", OPTIONS), f"{echo}\n\nThe answer is A.") == "A"


def test_choice_answer_may_be_the_options_text() -> None:
    assert score(item("choice", "egg", OPTIONS), "B") == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "credit cards",
        "Credit Cards.",
        '"credit cards"',
        "credit cards\n\nThe request is",
        "It is about credit cards",
    ],
)
def test_label_takes_the_right_label(text: str) -> None:
    assert score(LABEL, text) == 1.0


@pytest.mark.parametrize(
    "text", ["banking", "cards", "It is banking or credit cards", "creditcards", "scorecards", ""]
)
def test_label_refuses_wrong_and_ambiguous(text: str) -> None:
    assert score(LABEL, text) == 0.0


def test_chinese_labels_need_no_word_boundary() -> None:
    assert score(item("label", "退款", ("退款", "物流")), "这是退款问题。") == 1.0
    assert score(item("label", "退款", ("退款", "物流")), "退款和物流都有") == 1.0  # begins with it
    assert score(item("label", "退款", ("退款", "物流")), "可能是物流或退款") == 0.0


def test_a_label_is_not_found_inside_a_word() -> None:
    assert label.named_label(["no", "yes"], "nothing is known") is None
    assert label.named_label(["no", "yes"], "i say no") == "no"


@pytest.mark.parametrize(
    "text",
    [
        "1250",
        "1,250",
        "1250.0",
        "$1250",
        "1250 dollars",
        "The answer is 1250. Check: 5 + 3 = 8",
        "5 times 250 is 1250.",
        "so 1,250.",
        "\\boxed{1250}",
        "#### 1250",
        "答案是1250",
        "1250\nWhat is next? 7",
    ],
)
def test_number_finds_the_answer(text: str) -> None:
    assert score(NUMBER, text) == 1.0


@pytest.mark.parametrize("text", ["125", "12500", "1250 and then 7 more", "none", "", "-1250", "1.250"])
def test_number_refuses_others(text: str) -> None:
    assert score(NUMBER, text) == 0.0


def test_number_has_a_squared_error_only_where_a_number_was_given() -> None:
    assert graders.grade(NUMBER, "1247").squared_error == 9.0
    assert graders.grade(NUMBER, "1250").squared_error == 0.0
    assert graders.grade(NUMBER, "no idea").squared_error is None


def test_number_words_count_when_they_are_the_whole_answer() -> None:
    assert score(item("number", 9), "Nine.") == 1.0
    assert score(item("number", 9), "九") == 1.0
    assert number.found_number("one of them") is None


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_number_reads_back_what_python_prints(value: float) -> None:
    assert score(item("number", value), f"{value:.6f}") == 1.0 or abs(value) < 1e-6


@given(st.text(alphabet="0123456789.,-eE+ $x答案是", max_size=400))
def test_found_numbers_are_finite(text: str) -> None:
    found = number.found_number(text)
    assert found is None or math.isfinite(found)
    squared = graders.grade(NUMBER, text).squared_error
    assert squared is None or math.isfinite(squared)


def test_exact_ignores_space_quotes_and_unicode_forms_and_nothing_else() -> None:
    graded = item("exact", "We sing songs.")
    assert score(graded, ' "We  sing\nsongs." ') == 1.0
    assert score(graded, "We sing songs") == 0.0
    assert score(graded, "we sing songs.") == 0.0
    assert score(graded, "") == 0.0


def test_contains_takes_any_of_a_list_and_all_of_a_rule() -> None:
    assert score(item("contains", ["Nimon", "x1"]), "It was the horns of NIMON.") == 1.0
    assert score(item("contains", ["Nimon"]), "no") == 0.0
    rule = item("contains", {"all": ["Berlin", "9 euro"], "none": ["sorry"]})
    assert score(rule, "In Berlin for 9 Euro") == 1.0
    assert score(rule, "In Berlin") == 0.0
    assert score(rule, "Sorry, Berlin, 9 euro") == 0.0


def test_regex_searches_and_obeys_rules() -> None:
    assert score(item("regex", r"^- a\n- b$"), "- a\n- b") == 1.0
    assert score(item("regex", {"all": ["a", "b"], "none": ["c"]}), "a b") == 1.0
    assert score(item("regex", {"all": ["a", "b"], "none": ["c"]}), "a b c") == 0.0


def test_a_regex_bomb_is_stopped() -> None:
    result = graders.grade(item("regex", r"(a|aa)+$"), "a" * 5000 + "b")
    assert result.score == 0.0
    assert "longer" in result.note


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Li Wei", "age": 3}',
        'Sure!\n```json\n{"age": 3, "name": "Li Wei"}\n```\nDone',
        'Here: {"name": "Li Wei", "age": 3} ok',
    ],
)
def test_json_schema_takes_valid_json_in_prose_or_a_block(text: str) -> None:
    assert score(JSON, text) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Li Wei"}',
        '{"name": "Li", "age": 3}',
        '{"name": "Li Wei", "age": 3, "x": 1}',
        '{"name": "Li Wei", "age": NaN}',
        '{"name": "no", "name": "Li Wei", "age": 3}',
        "{",
        "[]",
        "no",
        "",
        "[" * 19_000,
        '{"a":' * 3000 + "1" + "}" * 3000,
    ],
)
def test_json_schema_refuses_the_rest_and_depth_bombs(text: str) -> None:
    assert score(JSON, text) == 0.0


def test_a_pattern_bomb_in_a_schema_is_stopped() -> None:
    graded = item("json_schema", {"type": "string", "pattern": "(a|aa)+$"})
    result = graders.grade(graded, '"' + "a" * 5000 + 'b"')
    assert result.score == 0.0
    assert "longer" in result.note


@pytest.mark.parametrize("name", ["chrf", "rouge"])
def test_similarity_is_one_for_the_same_and_falls_with_distance(name: str) -> None:
    graded = item(name, ["The cat sat on the mat.", "A cat was sitting there."])
    same, near, far = (
        score(graded, t) for t in ("The cat sat on the mat.", "The cat sat on a mat.", "zzz qqq")
    )
    assert same == pytest.approx(1.0)
    assert 0.3 < near < 1.0
    assert far < 0.1


def test_rouge_reads_chinese_by_character() -> None:
    graded = item("rouge", "猫坐在垫子上")
    assert score(graded, "猫坐在垫子上。") == pytest.approx(1.0)
    assert 0.3 < score(graded, "狗坐在垫子下") < 0.9


def test_chrf50_is_pass_or_fail() -> None:
    graded = item("chrf50", "The cat sat on the mat.")
    assert score(graded, "The cat sat on a mat.") == 1.0
    assert score(graded, "Dogs bark.") == 0.0


@pytest.mark.timeout(60)  # work that grows with the square of the length would take hours
@pytest.mark.parametrize("graded", EVERY, ids=lambda i: i.grader)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\u200b",
        "<think>never ends",
        "\ud800",
        "\x00",
        "z" * 3_000_000,
        "[" * 50_000,
        "9" * 100_000,
        "a " * 60_000,
    ],
)
def test_nothing_and_hostile_answers_score_near_zero(graded: Item, text: str) -> None:
    result = graders.grade(graded, text)
    assert 0.0 <= result.score < 0.2


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=50)
def test_no_answer_makes_a_grader_raise(text: str) -> None:
    for graded in EVERY:
        if graded.grader != "unit_test":  # a process each; has tests of its own
            assert 0.0 <= graders.grade(graded, text).score <= 1.0


def test_only_the_first_characters_are_read() -> None:
    assert score(item("contains", "late"), "x" * MAX_ANSWER_CHARACTERS + "late") == 0.0


@pytest.mark.parametrize(
    ("grader", "answer", "choices"),
    [
        ("choice", "D", OPTIONS),
        ("choice", "", ()),
        ("label", "x", ("a", "b")),
        ("label", 3, ()),
        ("number", "many", ()),
        ("number", True, ()),
        ("number", "nan", ()),
        ("exact", [], ()),
        ("contains", {"some": ["a"]}, ()),
        ("contains", {}, ()),
        ("contains", [""], ()),
        ("regex", "(", ()),
        ("json_schema", {"type": "no"}, ()),
        ("json_schema", "x", ()),
        ("json_schema", {"$ref": "http://127.0.0.1/x"}, ()),
        ("chrf", "", ()),
        ("rouge", [3], ()),
        ("unit_test", "", ()),
        ("nope", "", ()),
    ],
)
def test_an_answer_the_grader_cannot_use_is_refused_on_load(
    grader: str, answer: object, choices: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"'answer'|'test'|not known"):
        item(grader, answer, choices)


RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"


def test_unit_test_takes_a_block_a_bare_function_and_a_body() -> None:
    assert score(CODE, f"Sure:\n{RIGHT}\nHope it helps") == 1.0
    assert score(CODE, "def add(a, b):\n    return a + b\n") == 1.0
    assert score(CODE, "    return a + b\n") == 1.0
    assert score(CODE, "```python\nprint('x')\n```\nand\n" + RIGHT) == 1.0


def test_unit_test_fails_wrong_code_and_prose() -> None:
    assert graders.grade(CODE, RIGHT.replace("+", "-")).note == "failed: AssertionError"
    assert graders.grade(CODE, "I cannot do that.").note in (
        "failed: SyntaxError",
        "failed: IndentationError",
    )


def test_unit_test_without_an_entry_point_runs_statements() -> None:
    graded = item("unit_test", "", test="assert double(4) == 8")
    assert score(graded, "def double(x): return 2 * x") == 1.0
    assert score(graded, "def double(x): return x") == 0.0
