"""`mimic report`: compare the trained runs of an experiment, on a page and in a table."""

import json
import sys
import webbrowser
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click


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
    """
    from mimic_assets.cli.building import build
    from mimic_assets.cli.ended import end_dead_runs
    from mimic_assets.cli.environment import local_resources, open_instance, require_home
    from mimic_assets.experiments import find_experiment, require_trained
    from mimic_assets.registration import add_partitions
    from mimic_assets.reports import NUMBERS, PAGE, read_report
    from resources.exports import require_new, require_target, write_bytes

    require_home()
    resources = local_resources()
    specs, artefacts = resources["specs"], resources["artefacts"]
    spec = find_experiment(experiment, specs)
    require_trained(spec, specs, artefacts)
    if output is not None:
        require_target(output, [".html"])
        if not force:
            require_new(output)
    with open_instance() as instance, redirect_stdout(sys.stderr):
        end_dead_runs(instance, resources)
        add_partitions(instance, spec.asset, [spec.key])
        (outcome,) = build(instance, [spec], artefacts)
    if outcome.status == "failed":
        raise click.exceptions.Exit(1)
    page, document = Path(str(outcome.location)) / PAGE, json.loads(read_report(spec, NUMBERS, artefacts))
    if output is not None:
        write_bytes(read_report(spec, PAGE, artefacts), output, replace=force)
        page = output.absolute()
    if as_json:
        click.echo(json.dumps({"page": str(page), **document}, indent=1))
    else:
        _print(document)
        click.echo(f"report: {page}")
    if opens and not webbrowser.open(page.as_uri()):
        click.echo("mimic: no browser is known here; open that file in one", err=True)


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
