"""Whether a successor can start beside its predecessor: asked of Ray, which alone knows the devices."""

from collections.abc import Mapping
from typing import Any, Final

import ray
from ray.util.placement_group import placement_group, remove_placement_group

WAIT_S: Final = 3.0


def has_room(options: Mapping[str, Any]) -> bool:
    """Whether the cluster has what one more replica with these options needs, now and on the right nodes.

    Outside a cluster nobody knows: then there is none. Ray is asked to place a group only where the sum of
    what is free would do, so that a cluster that grows on demand does not grow for a question.
    """
    wanted = bundles(options)
    if not ray.is_initialized() or not _in_all(wanted, ray.available_resources()):
        return False
    group = placement_group(wanted, strategy=options.get("placement_group_strategy", "PACK"))
    try:
        return bool(group.wait(WAIT_S))
    finally:
        remove_placement_group(group)


def _in_all(wanted: list[dict[str, float]], free: Mapping[str, float]) -> bool:
    names = {name for bundle in wanted for name in bundle}
    return all(free.get(name, 0.0) >= sum(bundle.get(name, 0.0) for bundle in wanted) for name in names)


def bundles(options: Mapping[str, Any]) -> list[dict[str, float]]:
    """What a replica takes, a bundle for each part that must lie on one node."""
    if "placement_group_bundles" in options:
        return list(options["placement_group_bundles"])
    actor = options["ray_actor_options"]
    needs = {"CPU": actor.get("num_cpus", 0.0), "GPU": actor.get("num_gpus", 0.0)}
    if kind := actor.get("accelerator_type"):
        needs[f"accelerator_type:{kind}"] = 0.001
    return [{name: count for name, count in needs.items() if count} or {"CPU": 0.001}]
