"""What the dashboard's process loads: its viewers pay for no compiler and no numerical library."""

import os
import subprocess
import sys

from serve_app.config import DashboardConfig
from serve_app.dashboard.app import dashboard_options

SCRIPT = """
import sys
from serve_app.body.strict_json import parse
from serve_app.dashboard.dashboard import Dashboard
from serve_app.http.bodies import Bodies

Bodies(1024)
assert parse(b'{"key": "value", "list": [1, {"two": "\\\\u00e9"}]}')["list"][1] == {"two": "\u00e9"}
heavy = {"numba", "llvmlite", "scipy", "torch", "sqlalchemy", "vllm"}
print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
"""


def test_its_process_loads_no_compiler_and_no_numerical_library() -> None:
    options = dashboard_options(DashboardConfig())["ray_actor_options"]
    environment = {**os.environ, "PYTHONUTF8": "1", **options["runtime_env"]["env_vars"]}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
