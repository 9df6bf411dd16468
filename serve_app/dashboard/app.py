"""What a Serve config names for the dashboard: `serve_app.dashboard.app:build`."""

from typing import Any, Final, cast

from ray import serve
from ray.serve import Application

from serve_app.app import LOOP_ENV
from serve_app.config import DashboardConfig
from serve_app.http import guard

_LIMITS: Final = guard.Limits(
    most_bytes=128 * 1024,  # a chat of the playground, and nothing larger: it is scanned as Python
    total_bytes=16 * 1024 * 1024,
    grace_s=10.0,
    bytes_per_s=65_536,
)
_MOST_AT_ONCE: Final = 1000  # open pages and their requests
# What the policy's own code works out here is little; the compiler would take as much memory as all else.
_NO_COMPILER: Final = {"NUMBA_DISABLE_JIT": "1"}


def build(args: DashboardConfig) -> Application:
    """The app `dashboard`: one replica, so that all viewers share one reading of the table."""
    from serve_app.dashboard.dashboard import Dashboard

    dashboard: Any = serve.deployment(serve.ingress()(Dashboard), **dashboard_options(args))
    return cast(Application, dashboard.bind(args))


def dashboard_options(args: DashboardConfig) -> dict[str, Any]:
    """Options for `serve.deployment(Dashboard, **options)`; the guard stands before it too."""
    environment = LOOP_ENV | _NO_COMPILER | guard.environment(_LIMITS)
    return {
        "name": "Dashboard",
        "num_replicas": 1,
        "max_ongoing_requests": _MOST_AT_ONCE,
        "health_check_period_s": 5.0,
        "graceful_shutdown_timeout_s": 5.0,
        "graceful_shutdown_wait_loop_s": 0.5,
        "logging_config": {"enable_access_log": False},
        "ray_actor_options": {"num_cpus": args.num_cpus, "runtime_env": {"env_vars": environment}},
    }
