"""Writes kubernetes/rayservice.yaml from its template and cluster.gpu.yaml, so that both serve the same.

`python -m scripts.kubernetes [--check]`
"""

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.pages import write_or_check

CONFIG: Final = Path("cluster.gpu.yaml")
TEMPLATE: Final = Path("kubernetes/rayservice.template.yaml")
MANIFEST: Final = Path("kubernetes/rayservice.yaml")
_HEAD: Final = (
    "# Written by `python -m scripts.kubernetes` from {template} and {config}. NOT CONFIRMED ON A CLUSTER.\n"
)


class _Plain(yaml.SafeDumper):
    """Repeats what several places share, and writes long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        """Kubernetes' tools take anchors, people who read a manifest do not."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Plain.add_representer(str, _text)


def serve_config() -> dict[str, Any]:
    """cluster.gpu.yaml as a pod serves it: a Service and a NetworkPolicy stand where loopback did."""
    document: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return {**document, "http_options": {**document["http_options"], "host": "0.0.0.0"}}


def manifest() -> str:
    """The whole file."""
    service = yaml.safe_load(TEMPLATE.read_text())
    service["spec"]["serveConfigV2"] = _dump(serve_config())
    return _HEAD.format(template=TEMPLATE.name, config=CONFIG) + _dump(service)


def _dump(document: dict[str, Any]) -> str:
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=1_000, allow_unicode=True)
    return text


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, lambda: {MANIFEST: manifest()}))
