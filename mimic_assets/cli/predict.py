"""`mimic predict`: score one file with a trained run."""

import json
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mimic_assets.predictions import Predicted


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="File to write; its name ends in .parquet or .csv.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@click.option(
    "--explain",
    metavar="FEATURE",
    multiple=True,
    help="Add d_probability_d_FEATURE, the derivative of the probability; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output; needs --output.")
def predict(run: str, file: Path, output: Path | None, force: bool, explain: tuple[str, ...], as_json: bool) -> None:
    """Score the decisions of a file with a trained run; nothing is registered.

    RUN is SPACE/EXPERIMENT/RUN_ID as in `mimic status`, or at least 8 digits that begin a run id. FILE is Parquet or CSV,
    or a folder of such files, with _individual, _decision, _choice and the features of the run; _selected, _train,
    _alternative and _weight may be there. The rows get the columns of an inference table, with the same numbers, in the
    order of individual, decision and choice. They are written to OUT, or as CSV to standard output, all of them or none.

    \b
    Examples:
      mimic predict 9b0556be decisions.parquet --output scored.parquet
      mimic predict 9b0556be decisions.csv --explain size | head
    """
    from mimic_assets.cli.environment import resources_to_read
    from mimic_assets.cli.interruptions import terminable
    from mimic_assets.cli.progress import rows_done
    from mimic_assets.predictions import Write, pin_prediction
    from mimic_assets.predictions import predict as score
    from mimic_core.backend import import_keras
    from resources import exports

    if output is None and as_json:
        raise click.UsageError("--json needs --output: without it the rows are printed on standard output")
    if output is not None:
        _require_target(output, file, force)
    resources = resources_to_read()
    tables, artefacts = resources["tables"], resources["artefacts"]
    write: Write = partial(exports.write_stream, stream=sys.stdout.buffer)
    if output is not None:
        write = partial(exports.write_file, file=output, replace=force)
    # a layers file may print, and standard output is for the rows
    with terminable(), redirect_stdout(sys.stderr):
        prediction = pin_prediction(run, file, explain, resources["specs"], tables, artefacts)
        import_keras()  # seconds in which no progress could be shown
        with rows_done(str(file), prediction.pin.rows) as done:
            found = score(prediction, write, tables, artefacts, done, _say_spill)
        _sum_up(f"scored: {file} by {prediction.run.key}", found, output)
    if as_json:
        document = {"run": prediction.run.key, "file": str(file), "output": str(output), **vars(found)}
        click.echo(json.dumps(document, indent=1))


def _require_target(output: Path, file: Path, force: bool) -> None:
    from mimic_core.errors import SpecError
    from resources.exports import require_new, require_target

    require_target(output)
    real, source = output.resolve(), file.resolve()
    if source in (real, *real.parents):
        raise SpecError(f"--output {output}: the rows to score are there; give a name outside of {file}")
    if not force:
        require_new(output)


def _say_spill(size: float) -> None:
    click.echo(f"rows are in no order; about {size / 1e6:,.0f} MB are written to temporary files first", err=True)


def _sum_up(title: str, found: "Predicted", output: Path | None) -> None:
    from mimic_assets.cli.summary import print_effects, print_numbers

    click.echo(title)
    print_numbers(found.counts, found.metrics)
    print_effects(found.effects)
    for note in found.notes:
        click.echo(f"  note: {note}")
    if output is not None:
        click.echo(f"  at {output}")
