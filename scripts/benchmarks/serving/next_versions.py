"""The next minor versions of Ray and vLLM that the index has: what this code imports and replaces, looked up.

Nothing of a new version runs: its wheel is fetched without its dependencies and read. A name is there if
its module binds it anywhere at its top level. With Ray, HAProxy's template is edited as the door does it.
"""

import argparse
import ast
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from packaging.version import Version

from deployments import draining
from deployments.bound_versions import bounds, declared
from scripts.benchmarks.report import Report, bar
from serve_app.http.haproxy import Door, edited

ROOT: Final = Path(__file__).resolve().parents[3]
OURS: Final = ("serve_app", "deployments")
REPLACED: Final = {  # what is put in the place of, or looked up by its name alone
    ("ray._private.worker", draining.EXIT),
    ("ray.serve._private.replica", "start_asgi_http_server"),
}
TEMPLATE: Final = ("ray.serve._private.haproxy_templates", "HAPROXY_CONFIG_TEMPLATE")
DOOR: Final = Door(1000, 900, 15)

Name = tuple[str, str]  # module and name; the name is empty where the module itself is imported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--versions", nargs="*", metavar="NAME==VERSION", help="these, not what the index has"
    )


def run(args: argparse.Namespace) -> Report:
    """Fetch and look up each version; one bar each, and one that says so where there is none."""
    wanted = [tuple(one.split("==")) for one in args.versions] if args.versions else list(_newer())
    bars = []
    results: dict[str, object] = {}
    for package, number in wanted:
        missing = _missing(package, number)
        bars.append(bar(f"{package} {number}: names that are not there", len(missing), "<=", 0))
        results[f"{package} {number}"] = missing
    for package in bounds(declared()):
        if all(one != package for one, _ in wanted):
            bars.append(
                bar(f"{package} beyond {bounds(declared())[package]}: versions on the index", 0, ">=", 0)
            )
            results[package] = "the index has none beyond the declared range"
    return Report("next_versions", tuple(bars), results)


def _newer() -> Iterator[tuple[str, str]]:
    """The newest release of each minor version above the declared range, by the index."""
    for package, specifier in bounds(declared()).items():
        upper = Version(next(one.version for one in specifier if one.operator == "<"))
        newest: dict[tuple[int, ...], Version] = {}
        for one in _released(package):
            if one >= upper and not one.is_prerelease:
                newest[one.release[:2]] = max(one, newest.get(one.release[:2], one))
        yield from ((package, str(one)) for one in newest.values())


def _released(package: str) -> Iterator[Version]:
    command = [sys.executable, "-m", "pip", "index", "versions", package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Available versions:")]
    yield from (Version(one.strip()) for one in line.partition(":")[2].split(","))


def _missing(package: str, number: str) -> list[str]:
    """Names of ours that a version lacks, and whether its template cannot be edited."""
    with tempfile.TemporaryDirectory(prefix="fastserve-next-") as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "-d", folder, f"{package}=={number}"], check=True, timeout=1200)
        (wheel,) = Path(folder).glob("*.whl")
        return lacking(zipfile.Path(wheel), used(package), has_template=package == "ray")


def lacking(site: "Path | zipfile.Path", names: Iterable[Name], *, has_template: bool) -> list[str]:
    """What of `names` the packages below `site` do not have; sorted."""
    missing = sorted(f"{module}:{name}" for module, name in names if not _has(site, module, name))
    if has_template:
        try:
            edited(_constant(site, *TEMPLATE), DOOR)
        except (ValueError, LookupError) as error:
            missing.append(f"{TEMPLATE[0]}: {error}")
    return missing


def used(package: str) -> set[Name]:
    """What our code imports of a package, in functions too, and what it replaces there."""
    names = {one for one in REPLACED if one[0].split(".")[0] == package}
    for file in (path for room in OURS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names |= {(node.module, one.name) for one in node.names}
            elif isinstance(node, ast.Import):
                names |= {(one.name, "") for one in node.names}
    return {one for one in names if one[0].split(".")[0] == package}


def _file(site: "Path | zipfile.Path", module: str) -> "Path | zipfile.Path | None":
    """The source of a module, a package's __init__ or a compiled module's stub."""
    place = site
    for part in module.split(".")[:-1]:
        place = place / part
    last = module.split(".")[-1]
    candidates = (place / last / "__init__.py", place / f"{last}.py", place / f"{last}.pyi")
    return next((one for one in candidates if one.is_file()), None)


def _has(site: "Path | zipfile.Path", module: str, name: str) -> bool:
    file = _file(site, module)
    if file is None:
        return False
    if not name or _file(site, f"{module}.{name}") is not None:
        return True
    text = file.read_text(encoding="utf-8")
    return name in bound_names(text) or f'"{name}"' in text.partition("def __getattr__")[0]


def bound_names(source: str) -> set[str]:
    """The names that a module binds at its top level, below `if`, `try` and `with` too."""
    names: set[str] = set()
    nodes: list[ast.AST] = list(ast.parse(source).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(one.asname or one.name).split(".")[0] for one in node.names}
        else:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            nodes += ast.iter_child_nodes(node)
    return names


def _constant(site: "Path | zipfile.Path", module: str, name: str) -> str:
    """The text that a module gives a name. Raises LookupError."""
    file = _file(site, module)
    for node in ast.parse(file.read_text(encoding="utf-8")).body if file is not None else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    raise LookupError(f"'{name}' is not there.")
