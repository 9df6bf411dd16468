"""Writes the lists of components (SBOM, CycloneDX 1.6) of both images: `python -m scripts.sbom [--check]`.

They say what the lock files hold, and are the same at every run: no time of making, no random number.
"""

import json
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, Final

from scripts.licences import licence_of
from scripts.locks import FOLDER, TORCH, packages
from scripts.pages import write_or_check

IMAGES: Final = {"cpu": ("cpu", TORCH), "gpu": ("gpu",)}


def _component(key: str, said: str) -> dict[str, Any]:
    name, _, version = key.partition("==")
    url = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    licence = licence_of(name, said)
    licences = [{"license": {"name": licence}}] if licence == "BSD" else [{"expression": licence}]
    return {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "purl": url,
        "licenses": licences,
    }


def document(image: str) -> dict[str, Any]:
    """The list of one image."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    ours = f"pkg:pypi/{project['name']}@{project['version']}"
    wanted = set(IMAGES[image])
    components = [
        _component(key, entry["licence"]) for key, entry in packages().items() if wanted & set(entry["locks"])
    ]
    content = json.dumps([ours, components])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": project["name"],
                "version": project["version"],
                "purl": ours,
                "licenses": [{"expression": project["license"]}],
            }
        },
        "components": components,
        "dependencies": [{"ref": ours, "dependsOn": [one["bom-ref"] for one in components]}],
    }


def pages() -> dict[Path, str]:
    """Both lists."""
    return {FOLDER / f"{image}.cdx.json": json.dumps(document(image), indent=1) + "\n" for image in IMAGES}


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, pages))
