"""What is looked up in a new version of Ray is there in the one that runs, and what is gone is named."""

from pathlib import Path

import ray

from scripts.benchmarks.serving.next_versions import bound_names, lacking, used

SITE = Path(ray.__file__).parents[1]


def test_all_that_this_code_takes_from_ray_is_found_in_the_one_that_runs() -> None:
    names = used("ray")
    assert len(names) > 20
    assert lacking(SITE, names, has_template=True) == []


def test_what_a_version_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "ray" / "serve").mkdir(parents=True)
    (tmp_path / "ray" / "__init__.py").write_text("from x import get\n")
    (tmp_path / "ray" / "serve" / "__init__.py").touch()
    names = {("ray", "get"), ("ray", "put"), ("ray", "serve"), ("ray.gone", ""), ("ray.serve", "")}
    missing = lacking(tmp_path, names, has_template=True)
    assert missing[:2] == ["ray.gone:", "ray:put"]
    assert missing[2].startswith("ray.serve._private.haproxy_templates: ")


def test_names_below_conditions_count() -> None:
    tried = "try:\n    import a.b as c\nexcept ImportError:\n    c = None\n"
    source = tried + "if 1:\n    def f(): x = 1\n    d, e = 1, 2\n"
    assert bound_names(source) == {"c", "f", "d", "e"}
