"""Write dashboards for Grafana and alerts for Prometheus, or start both with them on this machine."""

from pathlib import Path

import click

from serve_app.console.errors import CommandError

NEXT = """
Prometheus: name {folder}/prometheus/fastserve.rules.yml under `rule_files`,
and take over the scrape job of prometheus.yml beside it.
Grafana: set `paths.provisioning` to {folder}/grafana/provisioning,
or import the dashboards of grafana/dashboards.
Ray: start it with RAY_PROMETHEUS_HOST={prometheus} and RAY_GRAFANA_HOST at Grafana,
so that its own page shows charts.
"""

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(
    help=f"{__doc__}\n\nWithout --start nothing is started: your own Prometheus and Grafana take the files. "
    "With it `prometheus` and `grafana` must be in the PATH; both listen on loopback and end with Ctrl-C."
)
@click.option(
    "--out",
    type=_FOLDER,
    default=Path("monitoring"),
    show_default=True,
    metavar="DIR",
    help="folder to write",
)
@click.option("--start", is_flag=True, help="start both, wired to Ray's dashboard")
@click.option(
    "--prometheus", default="http://127.0.0.1:9090", show_default=True, help="where Grafana finds it"
)
@click.option(
    "--ray-folder",
    type=_FOLDER,
    default=Path("/tmp/ray"),
    show_default=True,
    metavar="DIR",
    help="Ray's folder on the head node",
)
@click.option(
    "--runbooks", default="docs/operations.md", show_default=True, metavar="URL", help="where alerts lead to"
)
@click.option("--prometheus-port", type=click.IntRange(1, 65_535), default=9090, show_default=True)
@click.option("--grafana-port", type=click.IntRange(1, 65_535), default=3000, show_default=True)
def command(
    out: Path,
    start: bool,
    prometheus: str,
    ray_folder: Path,
    runbooks: str,
    prometheus_port: int,
    grafana_port: int,
) -> None:
    """Write; then say what to do with the files, or run both until Ctrl-C."""
    from serve_app.monitoring.files import Places, write
    from serve_app.monitoring.start import MissingProgramError, Started

    folder = out.absolute()
    url = f"http://127.0.0.1:{prometheus_port}" if start else prometheus
    for path in write(Places(folder, ray_folder, url, runbooks)):
        print(path)
    if not start:
        print(NEXT.format(folder=folder, prometheus=prometheus))
        return
    try:
        with Started(folder, prometheus_port, grafana_port) as started:
            print(
                f"Prometheus: {url}\nGrafana: http://127.0.0.1:{grafana_port}\nCtrl-C stops both.", flush=True
            )
            started.wait()
    except MissingProgramError as error:
        raise CommandError(str(error)) from error
