"""Snapshots: which old versions of a table expire, and which files its remaining versions name."""

import re
from collections.abc import Collection
from itertools import pairwise
from os.path import realpath
from typing import TYPE_CHECKING

from resources.iceberg import TOKEN, compacted, is_local

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot


def superseded(table: "Table", before: float, pinned: Collection[int]) -> list[int]:
    """List the versions that a newer one replaced before a moment and that nothing holds.

    A version's own age does not count: one that was current until yesterday has readers. As commits of unfinished runs are
    newer than `before`, such a run still finds its commit in the history, and repeating it lands nothing twice.

    Args:
        before: seconds since 1970.
        pinned: versions that must stay, whatever their age.
    """
    history = sorted(table.snapshots(), key=lambda version: (version.sequence_number or 0, version.timestamp_ms))
    kept = {*pinned, *(reference.snapshot_id for reference in table.metadata.refs.values())}
    expired: list[int] = []
    for version, successor in reversed(list(pairwise(history))):
        kept |= _token_holders(successor, expired)
        if successor.timestamp_ms / 1000 < before and version.snapshot_id not in kept:
            expired.append(version.snapshot_id)
    return expired


def expire(table: "Table", versions: list[int]) -> None:
    """Remove versions from a table's history in one commit; their files stay until nothing names them."""
    if versions:
        table.maintenance.expire_snapshots().by_ids(versions).commit()


def named_files(table: "Table", without: Collection[int] = ()) -> set[str]:
    """Return the paths of all files that a table's versions, history and statistics name.

    Args:
        without: versions that are to be left out, as if they were expired.
    """
    metadata = table.metadata
    versions = [version for version in metadata.snapshots if version.snapshot_id not in without]
    manifests = {manifest.manifest_path: manifest for version in versions for manifest in version.manifests(table.io)}
    statistics = [
        entry for entry in (*metadata.statistics, *metadata.partition_statistics) if entry.snapshot_id not in without
    ]
    urls = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    urls |= {version.manifest_list for version in versions} | {entry.statistics_path for entry in statistics}
    urls |= set(manifests)
    for manifest in manifests.values():
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        urls |= {entry.data_file.file_path for entry in entries}
    return {real_path(url) for url in urls}


def real_path(url: str) -> str:
    """Return the one name by which a file is compared; other engines write `file:/` where we write `file://`, and `s3a://`."""
    if is_local(url):
        return realpath(re.sub("^file:/+", "/", url))
    return re.sub("^s3[an]://", "s3://", url)


def _token_holders(version: "Snapshot", expired: Collection[int]) -> set[int]:
    """Return the version whose content token another engine's compaction goes on with, if that compaction stays."""
    parent = compacted(version)
    carried = version.summary is not None and TOKEN in version.summary.additional_properties
    return {parent} if parent is not None and not carried and version.snapshot_id not in expired else set()
