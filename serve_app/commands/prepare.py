"""Make what a config needs before it is deployed: weights, compiled loops, HAProxy's program."""

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
    """Prepare, and say where the first API key will be."""
    from deployments.home import first_key_file

    prepare(config)
    print(f"API key file: {first_key_file()} (written by the head node when the pool first starts)")


def prepare(config: Path) -> None:
    """Prepare every model's source, compiled loops and HAProxy's program; what is done is skipped."""
    from tqdm import tqdm

    from deployments.home import home, key_file
    from deployments.model.files import WeightsError, prepare_source
    from serve_app.http.haproxy import launcher

    models = [model for model in models_of(config) if model.engine == "vllm"]
    _require_prices(config, key_file())
    with tqdm(models, desc="models", unit="model", file=sys.stderr) as progress:
        for model in progress:
            progress.set_postfix_str(model.id)
            try:
                prepare_source(model.source, home(), progress.set_postfix_str, model.revision)
            except WeightsError as error:
                raise CommandError(str(error)) from error
    import_module("deployments.dispatch.dispatcher")  # compiles them, see policies.machine_code
    launcher(home())


def _require_prices(config: Path, keys: Path) -> None:
    """Raises CommandError where a limit in dollars meets a model without a price."""
    import yaml

    from serve_app.access.prices import keys_in, unpriced_in

    try:
        found = unpriced_in(yaml.safe_load(config.read_text()), keys_in(keys))
    except (OSError, ValueError) as error:
        raise CommandError(f"Config '{config}': {error}", REFUSED) from error
    if found:
        raise CommandError(f"Config '{config}': " + "\n".join(text for _, text in found), REFUSED)


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
