"""Make what a config needs before it is deployed: weights, compiled loops, the first API key."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from serve_app.console import options
from serve_app.console.errors import REFUSED, CommandError

if TYPE_CHECKING:
    from deployments.model.config import ModelConfig

_BUILDER = "serve_app.app:build_model"


@click.command(help=__doc__)
@options.config
def command(config: Path) -> None:
    """Prepare, and say where the key is."""
    print(f"API key file: {prepare(config)}")


def prepare(config: Path) -> Path:
    """Prepare every model's source, the compiled loops of a decision and the key; what is done is skipped.

    Returns the file of the first API key.
    """
    from tqdm import tqdm

    from deployments.home import home
    from deployments.model.files import WeightsError, prepare_source
    from serve_app.access.keys import KEY_FILE, ensure_key

    models = [model for model in models_of(config) if model.engine == "vllm"]
    key_file = ensure_key(home())
    _require_prices(config, key_file.with_name(KEY_FILE))
    with tqdm(models, desc="models", unit="model", file=sys.stderr) as progress:
        for model in progress:
            progress.set_postfix_str(model.id)
            try:
                prepare_source(model.source, home(), progress.set_postfix_str, model.revision)
            except WeightsError as error:
                raise CommandError(str(error)) from error
    import_module("deployments.dispatch.dispatcher")  # compiles them, see policies.compiled
    return key_file


def _require_prices(config: Path, keys: Path) -> None:
    """Raises CommandError where a limit in dollars meets a model without a price."""
    import yaml

    from serve_app.access.keys import KeyRing
    from serve_app.access.prices import require_prices

    try:
        require_prices(yaml.safe_load(config.read_text()), KeyRing(keys).keys)
    except ValueError as error:
        raise CommandError(f"Config '{config}': {error}", REFUSED) from error


def models_of(config: Path) -> "list[ModelConfig]":
    """The models that a Serve config file declares, validated. Raises CommandError naming the file."""
    import yaml

    from deployments.model.config import ModelConfig

    if not config.is_file():
        raise CommandError(f"Config '{config}' does not exist.")
    try:
        document = yaml.safe_load(config.read_text())
        applications = document["applications"]
        found = [a["args"] for a in applications if a.get("import_path") == _BUILDER]
        return [ModelConfig.model_validate(args) for args in found]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"Config '{config}': {error}") from error
