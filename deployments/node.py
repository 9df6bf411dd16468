"""The node that a process of the cluster runs on."""

import os
from collections.abc import Mapping
from ipaddress import ip_address


def node_address() -> str:
    """The address under which Ray knows this node; loopback where Ray was started on it."""
    import ray.util

    return str(ray.util.get_node_ip_address())


def require_authentication(address: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raises RuntimeError on a node beyond loopback whose Ray asks for no token.

    Ray's ports, its replicas' among them, run whatever they are sent.
    """
    if ip_address(address).is_loopback or environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return
    raise RuntimeError(
        f"Ray runs on '{address}' without its token: whoever reaches this node could run code on it. Set "
        "RAY_AUTH_MODE=token where Ray starts, on every node, and give each the same token "
        "(`ray get-auth-token --generate`)."
    )
