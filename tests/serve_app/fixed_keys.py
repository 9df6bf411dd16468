"""Keys as a KeyRing takes them from the ingress's copy of the table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deployments.keys.key import Key


@dataclass
class FixedKeys:
    keys: Mapping[bytes, Key] = field(default_factory=dict)
    keys_problem: str = ""
    secret: str = ""
