"""The process that asks vLLM's parser: models' configs as JSON in, what is wrong with each as JSON out."""

import difflib
import json
import re
import sys

from deployments.model.config import ModelConfig
from deployments.model.engines.base import EngineError
from deployments.model.engines.vllm import command_line, known_flags, parse_arguments

_FLAG = re.compile(r"--[a-z][a-z0-9-]*")


def complaint(config: ModelConfig) -> str:
    """What vLLM says against the flags of a model; "" for nothing."""
    try:
        parse_arguments(command_line(config, config.source or config.id))
    except EngineError as error:
        return " ".join(f"{error} {_hint(str(error))}".split())
    return ""


def _hint(message: str) -> str:
    """The nearest flag that vLLM has, for one that it does not know."""
    flags = known_flags()
    for name in _FLAG.findall(message):
        nearest = difflib.get_close_matches(name, flags, n=1, cutoff=0.6)
        if name not in flags and nearest:
            return f"Did you mean '{nearest[0].removeprefix('--')}'?"
    return ""


if __name__ == "__main__":
    print(json.dumps([complaint(ModelConfig.model_validate(one)) for one in json.load(sys.stdin)]))
