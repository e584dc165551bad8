"""The catalogue: what people find of every asset before anything is built: its owners, tags, columns, code and pages."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from mimic_assets.columns import usual_columns

ROOT = Path(__file__).parents[1]
CODE = "dagster/code_references"
LAYERS = {  # asset -> what its partitions are, to filter by
    "source_table": "decision-table",
    "contrast_set": "decision-table",
    "tfrecord_dataset": "training-data",
    "model_run": "model",
    "inference_table": "scores",
    "experiment_report": "report",
    "overview": "report",
}
PAGES = {  # asset -> the page that says more, relative to the root of this code
    "source_table": "docs/tables.md",
    "contrast_set": "docs/tables.md",
    "tfrecord_dataset": "docs/formats.md",
    "model_run": "docs/training.md",
    "inference_table": "docs/estimation.md",
    "experiment_report": "docs/estimation.md",
    "overview": "docs/operations.md",
}


def catalogued(
    assets: Sequence[dg.AssetsDefinition], owners: Sequence[str], code_url: str | None
) -> list[dg.AssetsDefinition]:
    """Return the assets with what the catalogue shows of them.

    Args:
        owners: teams and e-mail addresses.
        code_url: of the folder in a repository that holds this code; None names its files on this machine, which opens
            them in an editor there.
    """
    return [_catalogued(asset, owners, code_url) for asset in assets]


def _catalogued(asset: dg.AssetsDefinition, owners: Sequence[str], code_url: str | None) -> dg.AssetsDefinition:
    name = asset.key.to_user_string()
    metadata: dict[str, Any] = {CODE: _code(asset, code_url), **usual_columns(name)}
    if code_url:
        metadata["documentation"] = dg.MetadataValue.url(f"{code_url}/{PAGES[name]}")
    return asset.map_asset_specs(
        lambda spec: spec.merge_attributes(owners=owners, tags={"mimic/holds": LAYERS[name]}, metadata=metadata)
    )


def _code(asset: dg.AssetsDefinition, code_url: str | None) -> dg.CodeReferencesMetadataValue:
    # dg.with_source_code_references gives the file of a decorator, and the line of what that decorates
    body = inspect.unwrap(_body(asset))
    path, line = Path(body.__code__.co_filename), body.__code__.co_firstlineno
    inside = path.relative_to(ROOT).as_posix()
    if code_url:
        place: Any = dg.UrlCodeReference(url=f"{code_url}/{inside}#L{line}", label=inside)
    else:
        place = dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=inside)
    return dg.CodeReferencesMetadataValue(code_references=[place])


def _body(asset: dg.AssetsDefinition) -> Any:
    """Return the function that was decorated, of an op or of a graph."""
    node: Any = asset.node_def
    if isinstance(node, dg.GraphDefinition):
        return node.composition_fn
    return node.compute_fn.decorated_fn
