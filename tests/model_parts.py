"""A model as tests write it, in one mapping, parted as a config file has it."""

from typing import Any

from deployments.model.settings import ModelSettings


def parted(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `args` of a model's app, and the `user_config` of its deployment."""
    live = {name: value for name, value in values.items() if name in ModelSettings.model_fields}
    return {name: value for name, value in values.items() if name not in live}, live
