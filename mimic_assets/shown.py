"""What Dagster shows of a build: its counts, where it is, what it was made from, and what a reader must know."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from mimic_assets.columns import columns_shown
from mimic_assets.pictures import behind_a_link, inert, markdown_table
from mimic_core.overview import page_of
from mimic_core.pace import describe_bytes, describe_seconds

MOST_LISTED = 12  # of a list in a spec, such as features
LONGEST_WORD = 70  # letters; a longer one, such as the folder of a run, pushes the ends of all lines out of sight


def metadata(document: dict[str, Any], location: str, columns: dict[str, str], size: int | None = None) -> dict[str, Any]:
    """Return what Dagster shows of a build: counts, metrics, size, duration, location, input versions, columns of a table.

    Args:
        size: bytes of the files of a table; None where the build stored the files that it names.
    """
    metrics = document.get("metrics", {})
    tested_first = sorted(metrics, key=lambda name: not name.startswith("test_"))
    numbers = document["counts"] | {name: metrics[name] for name in tested_first}
    return {
        **({"dagster/row_count": numbers["rows"]} if "rows" in numbers else {}),
        **{name: number_shown(value) for name, value in numbers.items() if value is not None},
        "bytes": stored_bytes(document) if size is None else size,
        "seconds": document["seconds"],
        "version": document["version"],
        "dagster/uri": location if max(map(len, location.split("-"))) <= LONGEST_WORD else behind_a_link(f"`{location}`"),
        "upstream": dg.MetadataValue.md(_upstream(document["inputs"])),
        "spec": dg.MetadataValue.md(_listed_spec(document["spec"])),
        **columns_shown(document, columns),
    }


def stored_bytes(document: dict[str, Any]) -> int:
    """Return how long the files that a manifest names are together, in bytes."""
    return sum(file["bytes"] for name in ("files", "id_tables") for file in document.get(name, []))


def said_of(document: dict[str, Any], size: int | None = None) -> str:
    """Say in a line of a step's log what was published; `size` as for `metadata`."""
    written = describe_bytes(stored_bytes(document) if size is None else size)
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in list(document["counts"].items())[:2])
    took = describe_seconds(document["seconds"])
    return f"published version {document['version']}: {counts}, {written}; the build took {took}"


def notes_shown(said: Sequence[str]) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the metadata for what a reader of a build's numbers must know."""
    return {"notes": dg.MetadataValue.md("\n".join(f"- {inert(note)}" for note in said) or "none")}


def data_version_tag(document: dict[str, Any]) -> dict[str, str]:
    """Return the tag by which Dagster keeps a data version: the manifest's fingerprint."""
    return {"dagster/data_version": document["fingerprint"]}


def _upstream(inputs: dict[str, Any]) -> str:
    """Link the pages of the partitions that a build read, with the beginnings of the versions that it used."""
    rows: list[tuple[str, ...]] = [("asset", "partition", "version")]
    for asset, facts in ((asset, facts) for asset, found in inputs.items() for facts in _each(found)):
        key, version = str(facts.get("name") or facts["key"]), facts.get("token") or facts["fingerprint"]
        rows.append((asset, f"[{key}]({page_of(asset, key)})", version[:12]))
    return markdown_table(rows, numbers=False)


def _listed_spec(spec: dict[str, Any]) -> str:
    """List what a spec says, a line for each key; of a long list its beginning."""
    return "\n".join(f"- **{name}**: {inert(_listed(value))}" for name, value in spec.items())


def _listed(value: Any) -> str:
    if isinstance(value, list):
        more = [f"and {len(value) - MOST_LISTED:,} more"] if len(value) > MOST_LISTED else []
        return ", ".join([*map(_listed, value[:MOST_LISTED]), *more]) or "none"
    if isinstance(value, dict):
        return _listed([f"{name} = {_listed(each)}" for name, each in value.items()])
    return str(value)


def _each(found: Any) -> Sequence[dict[str, Any]]:
    """Return what was read of an asset: one partition, or of a report all runs."""
    return found if isinstance(found, list) else [found]


def number_shown(value: Any) -> int | float:
    """Return a number for people to read and Dagster to plot, with six digits."""
    # a NumPy number in event metadata cannot be stored; the manifest has all digits
    return int(value) if isinstance(value, int) else float(f"{value:.6g}")
