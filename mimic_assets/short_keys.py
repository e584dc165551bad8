"""Short keys: a home of an earlier version, whose keys of runs and inferences had whole run ids, gets the present ones."""

from collections.abc import Sequence

import dagster as dg

from mimic_assets.partitions import BY_ASSET
from mimic_assets.registration import add_partitions
from mimic_core.specs import InferenceSpec, RunSpec, present_key
from resources.specs import SpecStore


def shorten_keys(instance: dg.DagsterInstance, specs: SpecStore) -> list[str]:
    """Give runs and inferences their present keys, where they are stored and in Dagster; returns the old ones.

    What Dagster showed of a partition last is shown under its new key; its older events stay under the old one. A call that
    was killed can be repeated.
    """
    shortened = []
    for kind in (RunSpec, InferenceSpec):
        definition = str(BY_ASSET[kind.asset].name)
        known = instance.get_dynamic_partitions(definition) or specs.registered(kind.asset)
        for long, short in _long(kind.asset, known):
            specs.rename(kind.asset, long, short)
            _show_again(instance, kind.asset, long, short)
            add_partitions(instance, kind.asset, [short])
            instance.delete_dynamic_partition(definition, long)
            shortened.append(long)
    return shortened


def _long(asset: str, keys: Sequence[str]) -> list[tuple[str, str]]:
    return [(key, short) for key in keys if (short := present_key(asset, key)) != key]


def _show_again(instance: dg.DagsterInstance, asset: str, long: str, short: str) -> None:
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[long])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        event = record.asset_materialization
        if event:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(asset_key=asset, partition=short, metadata=event.metadata, tags=event.tags)
            )
