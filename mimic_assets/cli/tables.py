"""`mimic tables`: bring people's files in as tables or register them, look at tables, and take them out again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_table

if TYPE_CHECKING:
    import pyarrow as pa

    from mimic_core.contract import Outcome, Rules
    from mimic_core.filters import Condition


@click.group()
def tables() -> None:
    """Import, register, check, list, show, export and maintain tables.

    \b
    Example:
      mimic tables import haven.example_log_odds_features features.parquet
    """


@tables.command(name="import")
@click.argument("name", metavar="DATABASE.TABLE")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--append", is_flag=True, help="Add the rows instead of replacing the table.")
def import_table(name: str, paths: tuple[Path, ...], append: bool) -> None:
    """Copy Parquet or CSV files into a table, in one commit; an existing table is replaced.

    \b
    Examples:
      mimic tables import haven.example_log_odds_features features.parquet
      mimic tables import haven.example_log_odds_features more.csv --append
    """
    from mimic_assets.cli.environment import local_resources

    store = local_resources()["tables"]
    with _counting() as count:
        pin = store.import_files(name, paths, append=append, on_rows=count)
    _announce(store, pin)


@tables.command()
@click.argument("name", metavar="DATABASE.TABLE")
@click.argument("location", metavar="LOCATION", type=click.Path(path_type=Path))
def register(name: str, location: Path) -> None:
    """Use a Parquet file or folder as a table where it lies, without copying it.

    Folders named COLUMN=VALUE below LOCATION give columns. The files are only read. To register a name again, also with
    another location, moves the table there.

    \b
    Example:
      mimic tables register haven.example_log_odds_features /data/features
    """
    from mimic_assets.cli.environment import local_resources

    store = local_resources()["tables"]
    _announce(store, store.register(name, location))


@tables.command(name="list")
def list_tables() -> None:
    """List all tables with their rows and what they are for.

    \b
    Example:
      mimic tables list
    """
    from rich.table import Table

    from mimic_assets.cli.environment import local_resources
    from mimic_core.errors import MimicError

    store = local_resources()["tables"]
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

    from mimic_assets.cli.environment import local_resources

    store = local_resources()["tables"]
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
@click.option("--max-choices", type=click.IntRange(min=1), help="Most choices that a decision may offer.")
@click.option("--where", multiple=True, metavar="CONDITIONS", help="Check only these rows, as `where` in a config.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def check(name: str, features: str | None, max_choices: int | None, where: tuple[str, ...], as_json: bool) -> None:
    """Check that a table keeps the decision-table contract.

    Names every rule that is broken, with counts and up to five examples; the exit code is then 1. Builds check the same.

    \b
    Examples:
      mimic tables check haven.example_log_odds_features
      mimic tables check haven.example_log_odds_features --features size,age --max-choices 3
    """
    from mimic_assets.cli.environment import local_resources
    from mimic_core import contract
    from mimic_core.errors import SpecError, TableError
    from mimic_core.filters import check_filter
    from mimic_core.sources import check_schema, columns_to_read
    from resources.reading import counted
    from resources.tables import CONTRAST, SOURCE

    store = local_resources()["tables"]
    store.require_kind(name, SOURCE, CONTRAST)
    pin = store.pin(name)
    schema = store.schema_of(pin)
    try:
        check_schema(schema, (), table=name)
    except TableError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(1) from error
    rules = _rules(schema, name, features, max_choices, where)
    check_filter(rules.where, schema, name)
    columns = columns_to_read(schema, rules.features, rules.where).names
    with _counting() as count:
        outcome = contract.check_table(lambda: counted(store.batches(pin, columns), count), pin.rows, rules).outcome
    if outcome.filtered_rows and not outcome.rows:
        raise SpecError(f"--where: holds for none of the {outcome.filtered_rows:,} rows of table {name}")
    if as_json:
        click.echo(json.dumps({"table": name, "version": pin.token, **contract.document(outcome)}, indent=1))
    else:
        _print_outcome(name, outcome)
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
    from mimic_assets.cli.environment import local_resources

    store = local_resources()["tables"]
    with _counting() as count:
        rows = store.export(store.pin(name), file, _filter(where), on_rows=count)
    click.echo(f"{file}: {rows:,} rows of {name}")


def _announce(store: Any, pin: Any) -> None:
    """Print what a source table holds now, and report it to Dagster."""
    from mimic_assets.cli.environment import open_instance
    from mimic_assets.registration import add_partitions
    from mimic_assets.sources import observation

    click.echo(f"{pin.name}: {pin.rows:,} rows, {len(store.schema_of(pin).names)} columns, version {pin.token}")
    with open_instance() as instance:
        add_partitions(instance, "source_table", [pin.name])
        instance.report_runless_asset_event(observation(pin.name, store))


def _kind(pin: Any) -> str:
    return f"{pin.kind}, external at {pin.location}" if pin.location else str(pin.kind)


def _filter(where: Sequence[str]) -> "tuple[Condition, ...]":
    from mimic_core.errors import SpecError
    from mimic_core.filters import parse_filter

    try:
        return tuple(condition for text in where for condition in parse_filter(text))
    except SpecError as error:
        raise SpecError(f"--where: {error}") from error


def _rules(schema: "pa.Schema", name: str, features: str | None, max_choices: int | None, where: Sequence[str]) -> "Rules":
    """Compose what is asked, and refuse columns that are not there."""
    from mimic_core.contract import Rules
    from mimic_core.errors import SpecError
    from mimic_core.sources import check_schema, numeric_columns

    asked = numeric_columns(schema) if features is None else tuple(name.strip() for name in features.split(","))
    if "" in asked:
        raise SpecError(f"--features: expected columns, such as size,age, found {features!r}")
    check_schema(schema, asked, table=name)
    return Rules(features=asked, max_choices=max_choices, where=_filter(where))


def _print_outcome(name: str, outcome: "Outcome") -> None:
    counted = f"{outcome.rows:,} rows, {outcome.decisions:,} decisions, at most {outcome.largest_choice_set:,} choices each"
    if outcome.filtered_rows:
        counted += f"; --where leaves out {outcome.filtered_rows:,} rows"
    if not outcome.violations:
        click.echo(f"{name} keeps the decision-table contract: {counted}")
        return
    click.echo(f"{name} breaks the decision-table contract: {counted}")
    for violation in outcome.violations:
        click.echo(f"  {violation}")


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
