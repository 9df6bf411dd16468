"""The documents tell the truth about names: every path, module, command, flag and setting in them exists."""

import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from deployments.metrics.names import METRICS
from scripts import bench, config_page
from serve_app import cli
from serve_app.cluster_file.applications import app_problems, apps_of
from serve_app.cluster_file.document import parse_document

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "AGENTS.md", "suites/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
PACKAGES = ("serve_app", "deployments", "policies", "scripts")
OURS = ("fastserve ", "scripts/", "python ", "serve ", "kubectl ", "pip ")
OTHER_PROGRAMS = frozenset(
    {"bash", "cat", "chmod", "cp", "createdb", "curl", "docker", "export", "git", "helm", "kubectl", "mkdir"}
    | {"pg_dump", "pg_restore", "psql", "ray", "rm", "serve", "sqlite3", "sudo", "tar", "unset"}
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def spans(page: Path) -> list[str]:
    """What a page shows as code within its sentences, links' targets left out."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(page: Path) -> Iterator[str]:
    """Command lines of a page: those of its shell blocks, and code in its sentences that is one of ours."""
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S):
        joined = re.sub(r"'[^'\n]*\n[^']*'", "''", block.replace("\\\n", " "))  # a text of several lines
        joined = re.sub(r"<<-?'?(\w+)'?\n.*?^\1$", "", joined, flags=re.M | re.S)
        for line in joined.splitlines():
            plain = re.sub(r'"[^"]*"', '"text"', line.partition(" # ")[0])
            yield from re.split(r" \| | && |; ", plain.strip())
    for span in spans(page):
        if span.startswith(OURS) and " " in span:
            yield re.sub(r"[\[\]]", " ", span)


def found_in(find: Callable[[Path], Iterable[str]], pages: Iterable[Path] = PAGES) -> list[tuple[str, str]]:
    """(page, name) of everything that `find` gives for the pages."""
    return sorted({(str(page.relative_to(ROOT)), name) for page in pages for name in find(page) if name})


def paths(page: Path) -> Iterator[str]:
    """Code in sentences that is a path of this repository."""
    folders = "|".join(map(re.escape, FOLDERS))
    for word in (word for span in spans(page) for word in span.split()):
        if re.fullmatch(rf"(?:{folders})/[\w./*-]*|[\w/-]+\.py", word):
            yield word.rstrip(".").replace("NAME", "*")


def modules(page: Path) -> list[str]:
    """Code in sentences that is the dotted name of a module or of something in one."""
    dotted = rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?::\w+)?"
    return [span for span in spans(page) if re.fullmatch(dotted, span) and not span.endswith(".py")]


@cache
def setting_names() -> frozenset[str]:
    """Every key of the configuration page."""
    return frozenset(row.key for part in config_page.PARTS for row in config_page.rows(part.kind))


def settings(page: Path) -> list[str]:
    """Code in sentences that is the path of a setting inside a group, or `group.*`."""
    groups = "|".join(sorted({key.partition(".")[0] for key in setting_names() if re.match(r"\w+\.", key)}))
    return [span for span in spans(page) if re.fullmatch(rf"(?:{groups})(?:\.(?:\w+|<name>|\*))+", span)]


def metrics(page: Path) -> list[str]:
    """Names of our metrics."""
    return re.findall(
        r"\b(?:ray_)?(?:fastserve|gen_ai_server|gen_ai_client)_[a-z_]+\b(?!=)", page.read_text()
    )


@pytest.mark.parametrize(("page", "path"), found_in(paths))
def test_a_path_exists(page: str, path: str) -> None:
    assert list(ROOT.glob(path)), f"{page}: no '{path}'"


@pytest.mark.parametrize(("page", "name"), found_in(modules))
def test_a_dotted_name_exists(page: str, name: str) -> None:
    module, _, attribute = name.partition(":")
    if not attribute and importlib.util.find_spec(module.rpartition(".")[0]) is not None:
        with contextlib.suppress(ModuleNotFoundError):
            if importlib.util.find_spec(module) is not None:
                return
        module, _, attribute = module.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), f"{page}: no '{name}'"


@pytest.mark.parametrize(("page", "key"), found_in(settings))
def test_a_setting_exists(page: str, key: str) -> None:
    group = key.removesuffix("*")
    assert key in setting_names() or (
        group != key and any(name.startswith(group) for name in setting_names())
    ), f"{page}: no setting '{key}'"


@pytest.mark.parametrize(("page", "name"), found_in(metrics))
def test_a_metric_is_exported_under_this_name(page: str, name: str) -> None:
    exported = {name for metric in METRICS for name in (metric.exported, *metric.series)}
    assert name in exported, f"{page}: no metric '{name}'"


def test_every_header_and_environment_variable_is_read_somewhere() -> None:
    code = "".join(path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"\b(x-fastserve-[a-z-]*[a-z]|FASTSERVE_[A-Z_]*[A-Z])\b", page.read_text())
    }
    assert len(named) > 12
    assert {name for name in named if name not in code} == set()


@cache
def help_of(program: str, name: str) -> str:
    """What a subcommand of `fastserve` or of bench.py prints as its help."""
    main = {"fastserve": cli.main, "bench": bench.main}[program]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([name, "--help"])
    return printed.getvalue()


def check_subcommand(program: str, known: Iterable[str], words: list[str]) -> None:
    """A subcommand exists and has these flags, and its action where it has actions."""
    name = words[0]
    if name.isupper() or name.startswith("-"):
        return
    assert name in set(known), f"no '{name}' in {program}"
    text = help_of(program, name)
    unknown = [
        word
        for word in words[1:]
        if word.startswith("--") and not re.search(rf"{word.partition('=')[0]}\b", text)
    ]
    assert not unknown, f"'{program} {name}' has no {unknown}"
    actions = re.search(r"\{([\w|\n ]+)\}", text)
    if actions and len(words) > 1:
        assert words[1] in re.split(r"[|\s]+", actions[1])


def check_script(words: list[str]) -> None:
    """A script exists and knows these flags."""
    script = ROOT / words[0]
    assert script.is_file(), f"no '{words[0]}'"
    python = script.with_suffix(".py")
    text = script.read_text() + (python.read_text() if python.is_file() else "")
    assert not [word for word in words[1:] if word.startswith("--") and word not in text]


def check_python(words: list[str]) -> None:
    """`python scripts/bench.py NAME`, `python -m MODULE`, or a text of Python."""
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, f"no module '{words[1]}'"
    elif words[0] == "scripts/bench.py":
        check_subcommand("bench", bench.names(), words[1:])
    elif words[0] not in ("-c", "-"):
        check_script(words)


def check_pip(words: list[str]) -> None:
    """The distribution has this name and these extras; the name `fastserve` belongs to another project."""
    for word in words[1:]:
        name, _, extras = word.partition("==")[0].rstrip("]").partition("[")
        assert name != "fastserve", "the public index gives this name to another project"
        if name in (".", PYPROJECT["project"]["name"]) and extras:
            assert set(extras.split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])


@pytest.mark.parametrize(("page", "command"), found_in(commands))
def test_a_command_exists_with_its_flags(page: str, command: str) -> None:
    words = shlex.split(re.sub(r"\$\([^)]*\)", "value", command), comments=True)
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
        words = words[1:]
    if not words:
        return
    files = [word for word in words if re.fullmatch(r"(?:cluster[\w.]*|kubernetes/[\w./-]+)\.yaml", word)]
    assert [name for name in files if not (ROOT / name).is_file()] == []
    program, rest = re.sub(r"^\./|^\S*/bin/", "", words[0]), words[1:]
    if program == "fastserve":
        check_subcommand("fastserve", cli.names(), rest or ["--help"])
    elif program in ("python", "python3"):
        check_python(rest)
    elif program == "pip":
        check_pip(rest)
    elif program.startswith("scripts/"):
        check_script([program, *rest])
    else:
        assert program in OTHER_PROGRAMS, f"{page}: '{program}' is no program of these documents"


def models(page: Path) -> list[str]:
    """The models that a page shows as applications of a config."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)
    return [block for block in blocks if "serve_app.app:build_model" in block]


def test_a_model_that_a_page_shows_can_be_deployed() -> None:
    shown = found_in(models)
    assert len(shown) >= 2
    for page, block in shown:
        document = parse_document(f"applications:\n{block}".encode())
        found = [problem for app in apps_of(document) for problem in app_problems(document, app)]
        assert [one for one in found if "is no folder on this machine" not in one.message] == [], page


def test_every_package_has_its_line_in_the_architecture_page() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for layer in ("serve_app", "deployments", "policies")
        for path in (ROOT / layer).rglob("__init__.py")
    }
    assert {package for package in packages if f"`{package}" not in text} == set()


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda page: page.name
)
def test_no_page_holds_the_marks_of_a_merge(page: Path) -> None:
    assert not re.search(r"^(<{7} |={7}$|>{7} )", page.read_text(), re.M)
