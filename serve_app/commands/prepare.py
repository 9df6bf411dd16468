"""Make what a Serve config needs before it is deployed: weights, compiled loops, the first API key."""

import argparse
from importlib import import_module
from pathlib import Path

import yaml
from tqdm import tqdm

from deployments.home import home
from deployments.model.config import ModelConfig
from deployments.model.files import WeightsError, prepare_source
from serve_app.access.keys import ensure_key
from serve_app.console.connection import CommandError

_BUILDER = "serve_app.app:build_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "config", type=Path, nargs="?", default=Path("cluster.yaml"), help="a Serve config file"
    )


def models_of(config: Path) -> list[ModelConfig]:
    """The models that a Serve config file declares, validated. Raises CommandError naming the file."""
    if not config.is_file():
        raise CommandError(f"Config '{config}' does not exist.")
    try:
        document = yaml.safe_load(config.read_text())
        applications = document["applications"]
        found = [a["args"] for a in applications if a.get("import_path") == _BUILDER]
        return [ModelConfig.model_validate(args) for args in found]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"Config '{config}': {error}") from error


def run(args: argparse.Namespace) -> int:
    """Prepare every model's source, the compiled loops of a decision and the key; what is done is skipped."""
    models = [model for model in models_of(args.config) if model.engine == "vllm"]
    with tqdm(models, desc="models", unit="model") as progress:
        for model in progress:
            progress.set_postfix_str(model.id)
            try:
                prepare_source(model.source, home(), progress.set_postfix_str, model.revision)
            except WeightsError as error:
                raise CommandError(str(error)) from error
    import_module("deployments.dispatch.dispatcher")  # compiles them, see policies.compiled
    print(f"API key file: {ensure_key(home())}")
    return 0
