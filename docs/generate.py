"""Writes docs/specs.md and docs/cli.md from the spec classes and the commands, so that neither page can be out of date."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from mimic_assets.cli.main import main as mimic
from mimic_core.compute import ComputeSpec, Toleration
from mimic_core.configs import PATTERN_HELP, ordered_fields
from mimic_core.model_specs import EarlyStopping, ExperimentModelSpec
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, SamplingWeights

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples" / "first_table"
COMMAND = "python docs/generate.py"
WIDTH = 80  # columns of the help text, whatever the terminal

# The short names of the kinds of text, whose rules stand once at the top of the page.
NAMES = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "name",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "table name",
    r"^[^_].*$": "column name",
    r"^[0-9a-f]{64}$": "run id",
}
LEGEND = "\n".join(f"- *{name}*: {PATTERN_HELP[pattern]}" for pattern, name in NAMES.items())

SPECS_INTRO = f"""# Specs

<!-- Written by `{COMMAND}` from mimic_core/specs.py. Do not edit. -->

A spec is the config of one command, as JSON or YAML (a file that ends in `.yaml` or `.yml`). It holds everything that
defines the data; nothing that does is given in any other place. Parsing is strict: an unknown key, a missing key, a wrong
type or an impossible value is an error that names its path. A key whose value is `null` counts as unset.

A registered spec belongs to its partition: the command line, `dagster asset materialize` and the UI build a partition
from the spec that is stored under its key, with no run config. See [formats](formats.md) for how it is stored.

In the tables below:

{LEGEND}

A *name* and a *table name* have at most 128 characters.
"""

CLI_INTRO = f"""# Command line

<!-- Written by `{COMMAND}` from mimic_assets/cli. Do not edit. -->

The help of every command. Results are printed on standard output, progress and errors on standard error. Exit codes:
0 done, 1 a run failed, 2 the input is wrong, 130 interrupted.
"""

# What the classes do not say: which asset a spec's partitions belong to, the form of their keys, and the example.
SECTIONS: dict[type[BaseModel], tuple[str, str | None]] = {
    ContrastSpec: (
        "Partition of `contrast_set`; its key is `<database>.<destination_table>`.",
        "contrast.json",
    ),
    SamplingWeights: (
        'A value of `sampling` in a contrast; a config may also say `"uniform"` there, as if it were unset.',
        None,
    ),
    DatasetSpec: ("Partition of `tfrecord_dataset`; its key is `<space>/<dataset>`.", "dataset.json"),
    ExperimentSpec: (
        "Each model becomes a partition of `model_run`; its key is `<space>/<experiment_name>/` and the first 12 digits "
        "of the run id.\nThe run id is the SHA-256 of what the user set for that model: unset keys are left out, so a "
        "default that is written down\ngives another id.",
        "experiment.json",
    ),
    ExperimentModelSpec: ("An entry of `models` in an experiment.", None),
    EarlyStopping: ("The value of `early_stopping` in a model.", None),
    InferenceSpec: (
        "Partition of `inference_table`; its key is `<database>.<upload_table>/<experiment_name>/` and the first 12 digits "
        "of the run id.",
        "inference.json",
    ),
    ComputeSpec: (
        "The value of `compute` in every config. It applies to each step of a build, its GPUs to those that build shards or "
        "train.\nA registration with another `compute` counts from the next run on.",
        None,
    ),
    Toleration: ("An entry of `tolerations`.", None),
}


def pages() -> dict[Path, str]:
    """Return the generated pages with their text."""
    return {DOCS / "specs.md": specs_page(), DOCS / "cli.md": cli_page()}


def specs_page() -> str:
    """Describe every key of every spec."""
    parts = [SPECS_INTRO]
    for kind, (about, example) in SECTIONS.items():
        parts.append(f"## {kind.__name__}\n\n{kind.__doc__}\n\n{about}\n\n" + "\n".join(_table(kind)) + "\n")
        if example:
            text = (EXAMPLES / example).read_text(encoding="utf-8").strip()
            parts.append(f"Example, `examples/first_table/{example}`:\n\n```json\n{text}\n```\n")
    return "\n".join(parts)


def cli_page() -> str:
    """Collect the help of every command."""
    parts = [CLI_INTRO]
    for path, text in command_help(mimic, "mimic"):
        parts.append(f"## {path}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def command_help(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield the full name and the help of a command and of all commands below it, at a fixed width."""
    name = path.rpartition(" ")[2]
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH, **command.context_settings
    )
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from command_help(command.commands[below], f"{path} {below}", context)


def type_in_words(schema: dict[str, Any]) -> str:
    """Say in plain words which values a JSON schema allows.

    Args:
        schema: of one key, as pydantic writes it.
    """
    if "anyOf" in schema:
        return type_in_words(next(part for part in schema["anyOf"] if part.get("type") != "null"))
    if "$ref" in schema:
        return f"{schema['$ref'].rpartition('/')[2]}, see below"
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return " or ".join(f"`{json.dumps(value)}`" for value in values)
    kind = schema.get("type", "any value")
    if kind == "array":
        some = " of at least one" if schema.get("minItems") else ""
        return f"list{some}, each: {type_in_words(schema['items'])}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object, each value: {type_in_words(values)}" if isinstance(values, dict) else "object"
    if "pattern" in schema:
        return NAMES.get(schema["pattern"], PATTERN_HELP[schema["pattern"]])
    limits = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than"}
    said = [f"{words} {schema[name]:,}" for name, words in limits.items() if name in schema]
    return ", ".join(["text" if kind == "string" else kind, *said])


def _table(kind: type[BaseModel]) -> Iterator[str]:
    schema = kind.model_json_schema()
    yield "| key | type | default | example | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in ordered_fields(kind).items():
        words = type_in_words(schema["properties"][name])
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        examples = ", ".join(map(_value, field.examples or ()))
        yield f"| `{name}` | {_cell(words)} | {default} | {_cell(examples)} | {_cell(field.description or '')} |"


def _value(value: Any) -> str:
    return "unset" if value is None else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def is_stale(page: Path, text: str) -> bool:
    """Tell whether a page differs from what would be written now."""
    return not page.is_file() or page.read_text(encoding="utf-8") != text


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a page is out of date.")
def generate(check: bool) -> None:
    """Write the generated pages of the documentation."""
    stale = [page for page, text in pages().items() if is_stale(page, text)]
    if check:
        for page in stale:
            click.echo(f"docs/{page.name} is out of date; run: {COMMAND}", err=True)
        raise click.exceptions.Exit(bool(stale))
    for page in stale:
        page.write_text(pages()[page], encoding="utf-8")
        click.echo(f"wrote docs/{page.name}")


if __name__ == "__main__":
    generate()
