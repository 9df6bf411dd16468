"""List, create, rotate and revoke the API keys: on the head node, whose key file all nodes follow."""

from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from serve_app.console.errors import CommandError

if TYPE_CHECKING:
    from serve_app.access.key_admin import KeyAdmin

ACTIONS: Final = ("list", "create", "rotate", "revoke")
DAY_S: Final = 86_400.0


@click.command(help=f"{__doc__}\n\nThe text of a new key is printed once and stored nowhere.")
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("name", required=False)
@click.option("--role", "roles", multiple=True, help="a role of the new key; repeat for each")
@click.option("--expires", type=click.DateTime(), help="UTC time from which on the new key is refused")
@click.option("--usd-per-day", type=float, help="dollars a day (UTC) that the new key may spend")
@click.option(
    "--overlap-s", type=float, default=DAY_S, show_default=True, help="seconds that the old text still works"
)
def command(
    action: str,
    name: str | None,
    roles: tuple[str, ...],
    expires: datetime | None,
    usd_per_day: float | None,
    overlap_s: float,
) -> None:
    """Do it and say what came of it."""
    from deployments.home import first_key_file, key_file
    from serve_app.access.key_admin import KeyAdmin
    from serve_app.console.reach import require_head

    require_head()
    admin = KeyAdmin(key_file(), first_key_file())
    try:
        if action == "list":
            _list(admin)
            return
        if not name:
            raise CommandError(f"'{action}' needs the NAME of a key.")
        if action == "create":
            limits = {} if usd_per_day is None else {"usd_per_day": usd_per_day}
            print(admin.create(name, roles or ("infer", "feedback"), limits, expires))
        elif action == "rotate":
            print(admin.rotate(name, overlap_s))
        else:
            admin.revoke(name)
            print(f"Key '{name}' is revoked.")
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error


def _list(admin: "KeyAdmin") -> None:
    """One line a key: name, id, roles, end."""
    for entry in admin.entries():
        end = entry.expires_at.isoformat() if entry.expires_at else "no end"
        print(f"{entry.name:<20} {entry.identity}  {','.join(entry.roles):<30} {end}")
