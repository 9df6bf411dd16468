"""Names of models in a config file: ids, aliases, and the chains of models that answer for each other."""

from collections.abc import Iterator, Mapping, Sequence

from serve_app.cluster_file.applications import MODEL, App
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Place, Problem, did_you_mean


def unknown_models(document: Document, place: Place, named: object, models: set[str]) -> Iterator[Problem]:
    """Names in a list that are no model's id."""
    for number, model in enumerate(named if isinstance(named, list) else ()):
        if str(model) not in models:
            text = f"model '{model}' is not in this file; {did_you_mean(str(model), models)}"
            yield document.problem((*place, number), text)


def name_problems(document: Document, apps: Sequence[App], models: set[str]) -> Iterator[Problem]:
    """Aliases that name two models, and chains that lead nowhere or back."""
    ours = [app for app in apps if app.builder == MODEL]
    chains = {str(app.args.get("id")): _names(app.settings("Model")[1], "fallback") for app in ours}
    owners = {model: model for model in models}
    for app in ours:
        place, settings = app.settings("Model")
        model = str(app.args.get("id"))
        for number, alias in enumerate(_names(settings, "aliases")):
            if alias in owners:
                text = f"'{alias}' already names model '{owners[alias]}': choose another alias."
                yield document.problem((*place, "aliases", number), text)
            owners.setdefault(alias, model)
        yield from unknown_models(document, (*place, "fallback"), settings.get("fallback"), models)
        if circle := _circle(chains, model):
            text = f"leads back: {' -> '.join(circle)}. Take one of them out."
            yield document.problem((*place, "fallback"), text)


def _names(settings: Mapping[str, object], key: str) -> list[str]:
    named = settings.get(key)
    return [str(name) for name in named] if isinstance(named, list) else []


def _circle(chains: Mapping[str, Sequence[str]], start: str) -> list[str]:
    """A way from a model over chains back to it; [] where there is none."""
    ways, seen = [[start]], {start}
    for way in ways:  # grows meanwhile
        for model in chains.get(way[-1], ()):
            if model == start:
                return [*way, model]
            if model not in seen:
                seen.add(model)
                ways.append([*way, model])
    return []
