"""`mimic tables`: bring people's files in as tables, look at tables, and take them out again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_table

if TYPE_CHECKING:
    import pyarrow as pa


@click.group()
def tables() -> None:
    """Import, list, show, export and maintain tables.

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
    from mimic_assets.cli.environment import local_resources, open_instance
    from mimic_assets.registration import add_partitions
    from mimic_assets.sources import observation

    store = local_resources()["tables"]
    with _counting() as count:
        pin = store.import_files(name, paths, append=append, on_rows=count)
    click.echo(f"{name}: {pin.rows:,} rows, {len(store.schema_of(pin).names)} columns, version {pin.token}")
    with open_instance() as instance:
        add_partitions(instance, "source_table", [name])
        instance.report_runless_asset_event(observation(name, store))


@tables.command(name="list")
def list_tables() -> None:
    """List all tables with their rows and what they are for.

    \b
    Example:
      mimic tables list
    """
    from rich.table import Table

    from mimic_assets.cli.environment import local_resources

    store = local_resources()["tables"]
    names = store.names()
    if not names:
        click.echo("no tables yet; import one with `mimic tables import DATABASE.TABLE FILE`")
        return
    shown = Table("table", "kind", "version")
    shown.add_column("rows", justify="right")
    for pin in map(store.pin, names):
        shown.add_row(pin.name, pin.kind, pin.token, f"{pin.rows:,}")
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
    shown = Table("column", "type", "first values")
    for field in schema:
        shown.add_row(field.name, str(field.type), ", ".join(map(str, examples[field.name])))
    print_table(shown)


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
