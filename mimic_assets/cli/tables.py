"""`mimic tables`: bring people's files in as tables or register them, look at tables, and take them out again."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_table

if TYPE_CHECKING:
    import pyarrow as pa

    from mimic_core.contract import Outcome, Rules


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
@click.option("--where", metavar="CONDITIONS", help="Check only these rows; as `where` in a config.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def check(name: str, features: str | None, max_choices: int | None, where: str | None, as_json: bool) -> None:
    """Check that a table keeps the decision-table contract.

    Names every rule that is broken, with counts and up to five examples; the exit code is then 1. Builds check the same.

    \b
    Examples:
      mimic tables check haven.example_log_odds_features
      mimic tables check haven.example_log_odds_features --features size,age --max-choices 3
    """
    from mimic_assets.cli.environment import local_resources
    from mimic_core import contract
    from mimic_core.errors import TableError
    from mimic_core.filters import check_filter
    from mimic_core.sources import check_schema, columns_to_read
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
        outcome = contract.check_table(lambda: _counted(store.batches(pin, columns), count), pin.rows, rules).outcome
    if as_json:
        click.echo(json.dumps({"table": name, "version": pin.token, **contract.document(outcome)}, indent=1))
    else:
        _print_outcome(name, outcome)
    if outcome.violations:
        raise click.exceptions.Exit(1)


@tables.command()
@click.argument("name", metavar="DATABASE.TABLE")
@click.argument("file", metavar="FILE.parquet", type=click.Path(path_type=Path))
@click.option("--where", "conditions", multiple=True, metavar="COLUMN=VALUE", help="Only rows with this value.")
def export(name: str, file: Path, conditions: tuple[str, ...]) -> None:
    """Write a table, or some of its rows, to one Parquet file; an existing file is replaced.

    \b
    Example:
      mimic tables export haven.example_log_odds_batch_infer out.parquet --where _partition=0 --where _train=true
    """
    from mimic_assets.cli.environment import local_resources

    _require_writable(file)
    store = local_resources()["tables"]
    pin = store.pin(name)
    where = _conditions(conditions, store.schema_of(pin), name)
    rows = _write_parquet(store, pin, where, file)
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


def _require_writable(file: Path) -> None:
    from mimic_core.errors import SpecError

    if file.suffix != ".parquet":
        raise SpecError(f"{file}: expected a name that ends in .parquet, the only format of an export")
    if not file.absolute().parent.is_dir():
        raise SpecError(f"{file}: there is no folder {file.absolute().parent}; make it first")


def _write_parquet(store: Any, pin: Any, where: dict[str, Any], file: Path) -> int:
    import pyarrow.parquet as pq

    from mimic_core.errors import StorageError

    rows, partial = 0, file.with_name(f".{file.name}.partial")
    try:
        with pq.ParquetWriter(partial, store.schema_of(pin), compression="zstd") as writer:
            for batch in store.batches(pin, where=where):
                writer.write_batch(batch)
                rows += batch.num_rows
        partial.replace(file)
    except OSError as error:
        raise StorageError(f"{file}: could not be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _conditions(conditions: Sequence[str], schema: "pa.Schema", name: str) -> dict[str, Any]:
    from mimic_core.errors import SpecError, did_you_mean

    where = {}
    for condition in conditions:
        column, separator, text = condition.partition("=")
        if not separator:
            raise SpecError(f"--where: expected COLUMN=VALUE, found {condition!r}")
        if column not in schema.names:
            hint = did_you_mean(column, schema.names)
            raise SpecError(f"--where: table {name} has no column {column!r}{hint}; it has {', '.join(schema.names)}")
        if column in where:
            raise SpecError(f"--where: column {column!r} stands twice; give it one value")
        where[column] = _value(text, schema.field(column).type, column)
    return where


def _value(text: str, kind: "pa.DataType", column: str) -> Any:
    import pyarrow as pa

    from mimic_core.errors import SpecError

    try:
        value = pa.scalar(text).cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SpecError(f"--where: column {column!r} is {kind}, found {text!r}") from error
    if value != value:
        raise SpecError(f"--where: {column} = NaN selects nothing; give a number")
    return value


def _rules(schema: "pa.Schema", name: str, features: str | None, max_choices: int | None, where: str | None) -> "Rules":
    """Compose what is asked, and refuse columns that are not there."""
    from mimic_core.contract import Rules
    from mimic_core.errors import SpecError
    from mimic_core.filters import parse_filter
    from mimic_core.sources import check_schema, numeric_columns

    try:
        conditions = parse_filter(where) if where is not None else ()
    except SpecError as error:
        raise SpecError(f"--where: {error}") from error
    asked = numeric_columns(schema) if features is None else tuple(name.strip() for name in features.split(","))
    if "" in asked:
        raise SpecError(f"--features: expected columns, such as size,age, found {features!r}")
    check_schema(schema, asked, table=name)
    return Rules(features=asked, max_choices=max_choices, where=conditions)


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


def _counted(batches: "Iterator[pa.RecordBatch]", count: Callable[[int], None]) -> "Iterator[pa.RecordBatch]":
    rows = 0
    for batch in batches:
        yield batch
        rows += batch.num_rows
        count(rows)


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
