"""`mimic report`: compare the trained runs of an experiment, on a page and in a table."""

import json
import sys
import webbrowser
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.servers import named_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mimic_assets.cli.servers import ServerNamed
    from mimic_assets.outcomes import Outcome


@click.command()
@click.argument("experiment", metavar="EXPERIMENT")
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Also copy the page to this HTML file.")
@click.option("--force", is_flag=True, help="Replace that file where there is one.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def report(experiment: str, output: Path | None, force: bool, opens: bool, as_json: bool) -> None:
    """Report on the trained runs of an experiment.

    EXPERIMENT is SPACE/EXPERIMENT, or the experiment's name where there is one of it. The report ranks the runs by their
    NLL on the test decisions, with intervals from a bootstrap over individuals, and compares the two best by individual. It
    is one HTML file that needs no network. While a Dagster daemon runs, it builds the report; else the command does.

    \b
    Examples:
      mimic report test-experiment
      mimic report mimic-log-odds/test-experiment --output report.html --open
      mimic --server https://dagster.example.org report test-experiment --output report.html
    """
    from resources.exports import require_new, require_target, write_bytes

    server = named_server()
    if server is not None and opens and output is None:
        raise click.UsageError("--open with --server needs --output FILE, as the page is on the server until then")
    if output is not None:
        require_target(output, [".html"])
        if not force:
            require_new(output)
    make = _made_here if server is None else partial(_made_there, server)
    location, document, html = make(experiment, output is not None)
    page = location
    if output is not None:
        write_bytes(html, output, replace=force)
        page = str(output.absolute())
    if as_json:
        click.echo(json.dumps({"page": page, **document}, indent=1))
    else:
        _print(document)
        on = f" on {server.url}; --output FILE brings it here" if server is not None and output is None else ""
        click.echo(f"report: {page}{on}")
    if opens and not webbrowser.open(Path(page).as_uri()):
        click.echo("mimic: no browser is known here; open that file in one", err=True)


def _made_here(experiment: str, page: bool) -> tuple[str, dict[str, Any], bytes]:
    """Make a report on this machine; returns where its page is, its numbers, and the page where it is asked for."""
    from mimic_assets.cli.building import build
    from mimic_assets.cli.environment import local_resources, require_home
    from mimic_assets.cli.planning import opened
    from mimic_assets.experiments import find_experiment
    from mimic_assets.ready import require_ready
    from mimic_assets.registration import add_partitions
    from mimic_assets.reports import NUMBERS, PAGE, read_report

    require_home()
    resources = local_resources()
    artefacts = resources["artefacts"]
    spec = find_experiment(experiment, resources["specs"])
    require_ready([spec], resources)
    with redirect_stdout(sys.stderr), opened() as (instance, _):
        add_partitions(instance, spec.asset, [spec.key])
        outcomes = build(instance, [spec], artefacts)
    folder = _folder(outcomes)
    html = read_report(spec, PAGE, artefacts) if page else b""
    return f"{folder}/{PAGE}", json.loads(read_report(spec, NUMBERS, artefacts)), html


def _made_there(server: "ServerNamed", experiment: str, page: bool) -> tuple[str, dict[str, Any], bytes]:
    """Make a report on a server; returns what `_made_here` does."""
    from mimic_assets.cli.remote import connect, post
    from mimic_core.specs import ReportSpec

    connected = connect(server)
    spec = ReportSpec.model_validate(connected.ask("experiment", name=experiment))
    folder = _folder(post(connected, [(spec, "")], build=True, where=experiment))
    found = connected.ask("report", key=spec.key, page=page)
    return f"{folder}/{found['name']}", found["document"], (found["page"] or "").encode()


def _folder(outcomes: "Sequence[Outcome]") -> str:
    (outcome,) = outcomes
    if outcome.status == "failed":
        raise click.exceptions.Exit(1)
    return str(outcome.location)


def _print(document: dict[str, Any]) -> None:
    from mimic_assets.cli.output import print_columns, print_line
    from mimic_core.report_text import best_two, conclusion, leaderboard_rows

    print_columns(leaderboard_rows(document, short=True), numbers=True)
    for said in filter(None, (conclusion(document), best_two(document))):
        print_line(said)
    for run in document["apart"]:
        print_line(f"not ranked: {run['label']} ({run['run_id'][:8]}): {run['reason']}")
    for run in document["not_trained"]:
        print_line(f"not trained: {run['label']} ({run['run_id'][:8]})")
