"""How the benchmark of a start divides CPU among roles."""

import pytest

from scripts.benchmarks.scaling.start import role, spent_by_role


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ray::ServeReplica:model-tiny:Model", "engines: front ends"),
        ("VLLM::EngineCore", "engines: vLLM's core processes"),
        ("ray::ServeReplica:fastserve:Ingress", "ingress"),
        ("/usr/lib/ray/core/src/ray/raylet/raylet --x", "Ray"),
        ("python -m serve_app up", "the command"),
        ("bash", "others"),
    ],
)
def test_a_process_has_a_role_by_its_command_line(line: str, expected: str) -> None:
    assert role(line) == expected


def test_a_process_that_takes_a_new_title_has_spent_under_each_its_own_part() -> None:
    seen = {(7, "Ray: idle workers"): 1.5, (7, "ingress"): 4.0, (8, "table"): 2.0}
    spent = spent_by_role(seen, 10.0)
    assert spent.pop("ended before they were seen, or not ours") == pytest.approx(4.0)
    assert spent == pytest.approx({"Ray: idle workers": 1.5, "ingress": 2.5, "table": 2.0})
