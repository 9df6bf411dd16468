"""Makes the hashed lock files of every way of installing: `python -m scripts.lock [--check]`.

The versions are those of this environment, in which the tests passed; what it lacks keeps the version of the
lock before, or is the newest that fits. The index is the one that uv and pip are set up with. `--check` asks
no index: it says whether the files fit pyproject.toml and have a hash for every pin.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from scripts import licences, sbom
from scripts.locks import (
    GPU_PLATFORM,
    LOCKS,
    NAMES,
    PACKAGES,
    PYTHON,
    TORCH,
    TORCH_PIN,
    Lock,
    file_of,
    packages,
    pins,
    problems,
)

_PIP: Final = "pip>=25.1,<27"  # reports licence expressions
_EVERYWHERE: Final = "platform_machine == 'x86_64' and sys_platform == 'linux'"
_PYTHONS: Final = "python_full_version < '3.15'"  # for which Ray has wheels
_UNIVERSE: Final = f"""[project]
name = "wanted"
version = "0"
[tool.uv]
environments = ["{_PYTHONS} and {_EVERYWHERE}"]
"""


def _here() -> dict[str, str]:
    """Versions of this environment; builds of one machine (`+cpu`) are nobody else's."""
    found = ((one.metadata["Name"], one.version) for one in importlib.metadata.distributions())
    return {canonicalize_name(name): version for name, version in found if "+" not in version}


def _resolve(lock: Lock) -> None:
    """Write one lock by uv, which prefers the pins that its output file has."""
    before = {pin.name: pin.version for pin in pins(lock.path.read_text())} if lock.path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        wanted, dropped, out = (Path(folder, name) for name in ("wanted.in", "dropped.in", "out.lock"))
        wanted.write_text("\n".join(lock.requirements()))
        dropped.write_text("\n".join(f"{name}; python_version < '3'" for name in lock.left_out))
        out.write_text("".join(f"{name}=={version}\n" for name, version in (before | _here()).items()))
        Path(folder, "pyproject.toml").write_text(_UNIVERSE)
        platform = ["--python-platform", GPU_PLATFORM] if lock.gpu else ["--universal"]
        command = [sys.executable, "-m", "uv", "pip", "compile", "-q", str(wanted), *platform]
        command += ["--override", str(dropped), "--python-version", PYTHON, "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "-o", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        found = out.read_text().replace(f" ; {_PYTHONS} and {_EVERYWHERE}", "")
        found = found.replace(f" and {_EVERYWHERE}", "")
    head = f"# {lock.what}. By `python -m scripts.lock`, made of {lock.digest()}.\n"
    lock.path.write_text(head + found)


def _report(*words: str) -> list[dict[str, Any]]:
    """What pip would install, with the metadata of each wheel; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.json")
        pip = [
            sys.executable,
            "-m",
            "uv",
            "tool",
            "run",
            "-q",
            "--python",
            sys.executable,
            "--from",
            _PIP,
            "pip",
        ]
        command = [*pip, "install", "-qq", "--dry-run", "--ignore-installed", "--no-deps"]
        subprocess.run([*command, "--report", str(file), *words], check=True)
        found: list[dict[str, Any]] = json.loads(file.read_text())["install"]
    return found


def _torch() -> list[dict[str, Any]]:
    """Write the lock of torch for CPU: the one wheel of this Python."""
    found = _report(TORCH_PIN)
    (digest,) = (one["download_info"]["archive_info"]["hashes"]["sha256"] for one in found)
    head = f"# PyTorch for CPU: Linux x86-64, Python {PYTHON}. By `python -m scripts.lock`.\n"
    file_of(TORCH).write_text(f"{head}{TORCH_PIN} \\\n    --hash=sha256:{digest}\n")
    return found


def _add(found: dict[str, dict[str, Any]], lock: str, report: list[dict[str, Any]]) -> None:
    """Note what one lock has."""
    for one in report:
        data = one["metadata"]
        key = f"{canonicalize_name(data['name'])}=={data['version']}"
        found.setdefault(key, {"licence": licences.told(data), "locks": []})["locks"].append(lock)


def make(everything: bool) -> None:
    """Resolve what has changed, or everything, then read what each package says of its licence."""
    before = {} if everything or not PACKAGES.exists() else packages()
    found: dict[str, dict[str, Any]] = {}
    if not before or not file_of(TORCH).exists():
        _add(found, TORCH, _torch())
    for lock in LOCKS:
        if before and lock.path.exists() and not problems(lock, lock.path.read_text()):
            continue
        _resolve(lock)
        print(f"{lock.path}: {len(pins(lock.path.read_text()))} pins", flush=True)
        _add(found, lock.name, _report("--require-hashes", "-r", str(lock.path)))
    new = {name for entry in found.values() for name in entry["locks"]}
    for key, entry in before.items():
        kept = [name for name in entry["locks"] if name not in new]
        if kept:
            found.setdefault(key, {"licence": entry["licence"], "locks": []})["locks"] += kept
    for entry in found.values():
        entry["locks"].sort(key=NAMES.index)
    PACKAGES.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


def check() -> list[str]:
    """What is wrong with the stored files."""
    found = [problem for lock in LOCKS for problem in problems(lock, lock.path.read_text())]
    listed = packages()
    for name in NAMES:
        pinned = {f"{pin.name}=={pin.version}" for pin in pins(file_of(name).read_text())}
        strange = {key for key, entry in listed.items() if name in entry["locks"]} - pinned
        found += [f"{PACKAGES}: '{key}' is not in {file_of(name)}." for key in sorted(strange)]
    return [*found, *licences.problems(listed)]


def main() -> int:
    """Make the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the stored files are right")
    parser.add_argument("--all", action="store_true", help="also what is made of the same as before")
    args = parser.parse_args()
    if not args.check:
        make(args.all)
        for path, text in {**licences.pages(), **sbom.pages()}.items():
            path.write_text(text)
    wrong = check()
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
