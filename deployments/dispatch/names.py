"""What a name in a request stands for: a model by an alias, and who answers in its place."""

from collections.abc import Mapping

from deployments.records.snapshot import ModelRow


def aliases(models: Mapping[str, ModelRow]) -> dict[str, str]:
    """The model of each alias. An id wins over an alias, and of two models the one first in the alphabet."""
    found: dict[str, str] = {}
    for model in sorted(models):
        for alias in models[model].card.aliases:
            if alias not in models:
                found.setdefault(alias, model)
    return found


def chain(models: Mapping[str, ModelRow], named: str) -> tuple[str, ...]:
    """The named model and those that answer in its place: its own chain, then the chains of those."""
    order = [named]
    for model in order:  # grows meanwhile
        row = models.get(model)
        order += [one for one in (row.card.fallback if row else ()) if one in models and one not in order]
    return tuple(order)
