"""Source pages: what Dagster shows of a source table, in events of one partition."""

from typing import Any

import dagster as dg

from mimic_assets.choices_shown import choice_sets_shown, offered_shown
from mimic_assets.columns import SCHEMA, table_schema
from mimic_assets.pictures import and_more, markdown_table
from mimic_core.profiles import ALL, BOTH
from mimic_core.world import SOURCE, TableState

MOST_FEATURES = 60
HEADER = ("feature", "missing", "infinite", "lowest", "mean", "highest")


def seen(
    name: str, table: TableState, profile: dict[str, Any] | None = None
) -> list[dg.AssetObservation | dg.AssetMaterialization]:
    """Say what a source table holds that was looked at; `profile` is what is known of its rows.

    Dagster shows what was observed of a partition neither in the list of partitions nor on the asset's first page, so the
    table is said to be materialized too, after that.
    """
    tags = {"dagster/data_version": table.token}
    facts: dict[str, Any] = {
        "dagster/row_count": table.rows,
        "rows": table.rows,
        "columns": len(table.columns),
        "version": table.token,
        "changed": dg.MetadataValue.timestamp(table.changed_at),
        SCHEMA: table_schema(SOURCE, {column: facts["type"] for column, facts in table.columns.items()}),
    }
    return [
        dg.AssetObservation(SOURCE, partition=name, metadata=facts, tags=tags),
        dg.AssetMaterialization(SOURCE, partition=name, metadata=(profile or {}) | facts, tags=tags),
    ]


def is_observed(instance: dg.DagsterInstance, name: str, table: TableState) -> bool:
    """Tell whether the newest observation of a table, by whoever made it, names what it holds now.

    To say it again, without the profile, would take the pictures off its page and the answers of its checks out of date.
    """
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(SOURCE), asset_partitions=[name])
    found = [record.asset_observation for record in instance.fetch_observations(wanted, limit=1).records]
    return any(observation.tags.get("dagster/data_version") == table.token for observation in found if observation)


def profile_shown(document: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata for a stored profile: pictures first, then numbers, then tables."""
    if document["problem"]:
        return {"problem": document["problem"]}
    found = document["profile"]
    sizes = [(size, count) for size, count in found["sizes"]]
    return {
        **choice_sets_shown(sizes),
        **offered_shown(found["alternatives"] if found["selects"] else []),
        **_counts("decisions", found["decisions"]),
        **_counts("individuals", found["individuals"]),
        **_features(found["features"]),
    }


def _counts(name: str, counts: dict[str, int]) -> dict[str, int]:
    if ALL in counts:
        return {name: counts[ALL]}
    return {name: counts["train"] + counts["test"] - counts.get(BOTH, 0)} | {
        f"{split}_{name}": counts[split] for split in ("train", "test")
    }


def _features(features: list[dict[str, Any]]) -> dict[str, Any]:
    if not features:
        return {}
    rows = [
        (
            feature["feature"],
            f"{feature['nulls']:,}",
            f"{feature['infinite']:,}",
            *("" if feature[name] is None else f"{feature[name]:.5g}" for name in ("lowest", "mean", "highest")),
        )
        for feature in features[:MOST_FEATURES]
    ]
    more = len(features) - len(rows)
    table = markdown_table([HEADER, *rows])
    return {
        "features": len(features),
        "features_with_missing_values": sum(feature["nulls"] > 0 for feature in features),
        "features_table": dg.MetadataValue.md(table + and_more(more)),
    }
