"""The flags of vLLM in a config file, held against vLLM's own parser in a process of its own."""

import importlib.util
import json
import subprocess
import sys
from typing import Final

from deployments.model.config import ModelConfig
from serve_app.cluster_file.applications import MODEL, App
from serve_app.cluster_file.document import Document
from serve_app.cluster_file.problem import Problem

LIMIT_S: Final = 120.0  # vLLM takes tens of seconds to import
_CHILD: Final = "serve_app.cluster_file.engine_parser"


def flag_problems(document: Document, apps: list[App]) -> list[Problem]:
    """The flags that vLLM refuses; none where vLLM is not installed here. `apps` are valid otherwise."""
    models = [app for app in apps if app.builder == MODEL and app.args.get("engine", "vllm") == "vllm"]
    if not models or importlib.util.find_spec("vllm") is None:
        return []
    complaints = _complaints([ModelConfig.model_validate(app.args) for app in models])
    return [
        document.problem((*app.place, "args", "engine_args"), complaint)
        for app, complaint in zip(models, complaints, strict=True)
        if complaint
    ]


def _complaints(models: list[ModelConfig]) -> list[str]:
    """What vLLM says against each model's flags; "" for nothing."""
    asked = json.dumps([model.model_dump(mode="json") for model in models])
    try:
        done = subprocess.run(
            [sys.executable, "-m", _CHILD],
            input=asked,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        late = f"vLLM's parser did not answer within {LIMIT_S:.0f} s: try again on a quiet machine."
        return [late] * len(models)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [f"vLLM's parser failed: {last}"] * len(models)
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers
