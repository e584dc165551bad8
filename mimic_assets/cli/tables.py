"""`mimic tables`: bring people's files in as tables or register them, look at tables, and take them out again."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_table

if TYPE_CHECKING:
    import pyarrow as pa

    from mimic_core.filters import Condition
    from mimic_core.outcomes import Checked


@click.group()
def tables() -> None:
    """Import, register, check, list, show, export, maintain and remove tables.

    \b
    Example:
      mimic tables import haven.example_log_odds_features features.parquet
    """


@tables.command(name="import")
@click.argument("name", metavar="DATABASE.TABLE")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--append", is_flag=True, help="Add the rows instead of replacing the table.")
def import_table(name: str, paths: tuple[str, ...], append: bool) -> None:
    """Copy Parquet or CSV files into a table, in one commit; an existing table is replaced.

    A PATH is a file or folder, or s3://BUCKET/PREFIX with Parquet files.

    \b
    Examples:
      mimic tables import haven.example_log_odds_features features.parquet
      mimic tables import haven.example_log_odds_features more.csv --append
    """
    from mimic_assets.cli.environment import local_resources
    from mimic_core.errors import MimicError

    store = local_resources()["tables"]
    before = 0
    with suppress(MimicError):  # there is none, or one that cannot be read
        before = store.pin(name).rows
    with _counting() as count:
        pin = store.import_files(name, paths, append=append, on_rows=count)
    _announce(store, pin)
    if before and not append:
        click.echo(f"  in place of {before:,} rows; `mimic plan` says what is out of date by that", err=True)


@tables.command()
@click.argument("name", metavar="DATABASE.TABLE")
@click.argument("location", metavar="LOCATION")
def register(name: str, location: str) -> None:
    """Use a Parquet file or folder, or s3://BUCKET/PREFIX, as a table where it lies, without copying it.

    Folders named COLUMN=VALUE below LOCATION give columns. The files are only read. To register a name again, also with
    another location, moves the table there.

    \b
    Examples:
      mimic tables register haven.example_log_odds_features /data/features
      mimic tables register haven.bookings s3://lake/bookings/2026
    """
    from mimic_assets.cli.environment import local_resources

    store = local_resources()["tables"]
    _announce(store, store.register(name, location))
    if not location.startswith("s3://"):
        _warn_of_other_pods(Path(location).absolute())


@tables.command(name="list")
def list_tables() -> None:
    """List all tables with their rows and what they are for.

    \b
    Example:
      mimic tables list
    """
    from rich.table import Table

    from mimic_assets.cli.environment import missing_home, resources_to_read
    from mimic_core.errors import MimicError

    if missing := missing_home():
        click.echo(missing)
        return
    store = resources_to_read()["tables"]
    names = store.names()
    if not names:
        click.echo("no tables yet; import one with `mimic tables import DATABASE.TABLE FILE`")
        return
    shown = Table("table", "kind", "version")
    shown.add_column("rows", justify="right")
    for name in names:
        try:
            pin = store.pin(name)
        except MimicError as error:  # the files of a registered table are gone; the others are shown
            click.echo(f"mimic: {error}", err=True)
            continue
        shown.add_row(pin.name, _kind(pin), pin.token, f"{pin.rows:,}")
    print_table(shown)


@tables.command()
@click.argument("name", metavar="DATABASE.TABLE")
def show(name: str) -> None:
    """Show a table's columns, size, version and first rows.

    \b
    Example:
      mimic tables show haven.example_log_odds_features
    """
    from rich.table import Table

    from mimic_assets.cli.environment import resources_to_read

    store = resources_to_read()["tables"]
    pin = store.pin(name)
    schema = store.schema_of(pin)
    first = next(store.batches(pin), None)
    examples = first.slice(0, 3).to_pydict() if first is not None else {field: [] for field in schema.names}
    click.echo(f"{name}: {pin.kind} table, {pin.rows:,} rows, version {pin.token}")
    if pin.location:
        click.echo(f"external: its files are at {pin.location} and only read")
    else:
        click.echo(f"for other engines: {store.metadata_file(name)}")
    shown = Table("column", "type", "first values")
    for field in schema:
        shown.add_row(field.name, str(field.type), ", ".join(map(str, examples[field.name])))
    print_table(shown)


@tables.command()
@click.argument("name", metavar="DATABASE.TABLE")
@click.option("--features", metavar="A,B,...", help="Features to check; all columns of numbers unless told.")
@click.option("--missing", metavar="A,B,...", default="", help="Features that a missing_values_map fills in.")
@click.option("--unlabelled", is_flag=True, help="A table to be scored: no selected rows, no splits.")
@click.option("--max-choices", type=click.IntRange(min=1), help="Most choices that a decision may offer.")
@click.option("--where", multiple=True, metavar="CONDITIONS", help="Check only these rows, as `where` in a config.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def check(
    name: str,
    features: str | None,
    missing: str,
    unlabelled: bool,
    max_choices: int | None,
    where: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check that a table keeps the decision-table contract.

    Names every rule that is broken, with counts and up to five examples; the exit code is then 1. Builds check the same.

    \b
    Examples:
      mimic tables check haven.example_log_odds_features
      mimic tables check haven.example_log_odds_features --features size,age --missing size,age --max-choices 3
    """
    from mimic_assets.cli.environment import resources_to_read
    from mimic_core import contract, outcomes
    from mimic_core.errors import SpecError, TableError
    from mimic_core.filters import check_filter
    from mimic_core.sources import FLAGS, KEYS, check_schema, columns_to_read, numeric_columns
    from resources.reading import counted
    from resources.tables import CONTRAST, SOURCE

    store = resources_to_read()["tables"]
    store.require_kind(name, SOURCE, CONTRAST)
    pin = store.pin(name)
    schema = store.schema_of(pin)
    try:
        check_schema(schema, (), table=name, required=KEYS if unlabelled else (*KEYS, *FLAGS))
    except TableError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(1) from error
    asked = _asked("--features", features, schema, name) if features is not None else numeric_columns(schema)
    filled = dict.fromkeys(_asked("--missing", missing, schema, name), 0.0) if missing else {}
    rules = contract.Rules(
        features=asked, missing_values_map=filled, max_choices=max_choices, labelled=not unlabelled, where=_filter(where)
    )
    check_filter(rules.where, schema, name)
    columns = columns_to_read(schema, rules.features, rules.where).names
    with _counting() as count:
        found = contract.check_table(lambda: counted(store.batches(pin, columns), count), pin.rows, rules)
    outcome = found.outcome
    if outcome.filtered_rows and not outcome.rows:
        raise SpecError(f"--where: holds for none of the {outcome.filtered_rows:,} rows of table {name}")
    if as_json:
        click.echo(json.dumps({"table": name, "version": pin.token, **outcomes.document(outcome)}, indent=1))
    else:
        _print_outcome(name, found, rules.features, [column for column in schema.names if column not in columns])
    if outcome.violations:
        raise click.exceptions.Exit(1)


@tables.command()
@click.argument("name", metavar="DATABASE.TABLE")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--where", multiple=True, metavar="CONDITIONS", help="Only rows for which this holds, as in a config.")
def export(name: str, file: Path, where: tuple[str, ...]) -> None:
    """Write a table, or some of its rows, to one Parquet or CSV file; an existing file is replaced.

    \b
    Examples:
      mimic tables export haven.example_log_odds_batch_infer out.parquet
      mimic tables export haven.example_log_odds_batch_infer out.csv --where "_train = true and probability > 0.5"
    """
    from mimic_assets.cli.environment import resources_to_read

    store = resources_to_read()["tables"]
    with _counting() as count:
        rows = store.export(store.pin(name), file, _filter(where), on_rows=count)
    click.echo(f"{file}: {rows:,} rows of {name}")


def _announce(store: Any, pin: Any) -> None:
    """Print what a source table holds now, and report it to Dagster."""
    from mimic_assets.cli.environment import open_instance
    from mimic_assets.registration import add_partitions
    from mimic_assets.source_pages import is_observed, seen
    from mimic_core.sources import numeric_columns
    from resources.profiles import state_of

    schema = store.schema_of(pin)
    click.echo(f"{pin.name}: {pin.rows:,} rows, {len(schema.names)} columns, version {pin.token}")
    # a column of numbers with one "?" among them is text, and people notice it late
    if others := [name for name in schema.names if not name.startswith("_") and name not in numeric_columns(schema)]:
        click.echo(f"  not numbers, so no features: {', '.join(others)}")
    _warn(pin.name, schema)
    table = state_of(pin, store)
    with open_instance() as instance:
        add_partitions(instance, "source_table", [pin.name])
        for event in [] if is_observed(instance, pin.name, table) else seen(pin.name, table):
            instance.report_runless_asset_event(event)


def _warn_of_other_pods(location: Path) -> None:
    """Say of files in a cluster that this pod may be the only one to have them."""
    from resources.environments import in_cluster, mimic_home

    if in_cluster() and not location.is_relative_to(mimic_home()):
        click.echo(
            f"mimic: warning: {location} is not below MIMIC_HOME ({mimic_home()}), so the steps of builds, which are other "
            "pods, find it only if the same volume is mounted there too; else copy it below MIMIC_HOME and register that",
            err=True,
        )


def _warn(name: str, schema: "pa.Schema") -> None:
    """Say what the columns of a table keep people from doing with it; more of its columns may be on their way."""
    from mimic_core.errors import did_you_mean
    from mimic_core.sources import FLAGS, why_unusable

    check = f"mimic tables check {name}"
    if why := why_unusable(schema):
        click.echo(f"warning: {name} is {why}; see `{check}` and docs/tables.md", err=True)
    elif lacking := [f"{flag}{did_you_mean(flag, schema.names)}" for flag in FLAGS if flag not in schema.names]:
        click.echo(
            f"warning: {name} has no {' and no '.join(lacking)}: it can be scored, and nothing can be trained on it; "
            f"see `{check} --unlabelled` and docs/tables.md",
            err=True,
        )


def _kind(pin: Any) -> str:
    return f"{pin.kind}, external at {pin.location}" if pin.location else str(pin.kind)


def _filter(where: Sequence[str]) -> "tuple[Condition, ...]":
    from mimic_core.errors import SpecError
    from mimic_core.filters import parse_filter

    try:
        return tuple(condition for text in where for condition in parse_filter(text))
    except SpecError as error:
        raise SpecError(f"--where: {error}") from error


def _asked(option: str, text: str, schema: "pa.Schema", name: str) -> tuple[str, ...]:
    """Return the columns that an option names, and refuse those that cannot be features."""
    from mimic_core.errors import SpecError
    from mimic_core.sources import check_schema

    columns = tuple(part.strip() for part in text.split(","))
    wrong = [column for column in columns if not column or column.startswith("_") or columns.count(column) > 1]
    if wrong:
        raise SpecError(f"{option}: expected feature columns, each once, such as size,age; found {text!r}")
    check_schema(schema, columns, table=name, required=())
    return columns


def _print_outcome(name: str, found: "Checked", features: Sequence[str], others: Sequence[str]) -> None:
    outcome = found.outcome
    verb = "breaks" if outcome.violations else "keeps"
    counted = f"{outcome.rows:,} rows, {outcome.decisions:,} decisions, at most {outcome.largest_choice_set:,} choices each"
    if outcome.filtered_rows:
        counted += f"; --where leaves out {outcome.filtered_rows:,} rows"
    click.echo(f"{name} {verb} the decision-table contract: {counted}")
    for violation in outcome.violations:
        click.echo(f"  {violation}")
    if outcome.violations:
        click.echo(f'  "invalid_decisions": "drop" in a config would leave out {len(found.offending):,} decisions')
    click.echo(f"  features checked: {', '.join(features) or 'none'}")
    if others:
        click.echo(f"  columns not checked: {', '.join(others)}")


def _counting() -> Any:
    from contextlib import contextmanager

    from rich.console import Console

    console = Console(stderr=True)

    @contextmanager
    def counting() -> Any:
        if not console.is_terminal:
            yield lambda _: None
            return
        with console.status("reading") as spinner:
            yield lambda rows: spinner.update(f"reading: {rows:,} rows")

    return counting()
