"""Compaction: many small data files of a partition become few, in one commit that changes no row and no content token."""

import math
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from resources.iceberg import COMPACTS, TOKEN, WRITE, content_token, landed, origin
from resources.reading import read_files
from resources.staging import ROWS_PER_FILE, Staged, column_ids, delete_files, write_files

if TYPE_CHECKING:
    from pyiceberg.table import FileScanTask, Table

FEWEST_SMALL_FILES = 4
SMALL = ROWS_PER_FILE // 2  # rows; two such files fit into one
MOST_ATTEMPTS = 5

Load = Callable[[], "Table"]
Queue = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The data files of one partition that are worth writing anew, in the order in which they are read."""

    tasks: "tuple[FileScanTask, ...]"
    files_after: int

    @property
    def paths(self) -> list[str]:
        """The files' URLs."""
        return [task.file.file_path for task in self.tasks]


def groups(table: "Table") -> list[Group]:
    """List the partitions of which at least four files are small, and whose files would be at most half as many.

    A partition whose files another engine deletes rows from, or partitioned otherwise than the table now, is left alone.
    """
    by_partition: dict[tuple[int, object], list[FileScanTask]] = defaultdict(list)
    for task in table.scan().plan_files() if table.current_snapshot() else ():
        by_partition[(task.file.spec_id, task.file.partition)].append(task)
    found = []
    for (spec_id, _), tasks in by_partition.items():
        small = sum(task.file.record_count < SMALL for task in tasks)
        after = math.ceil(sum(task.file.record_count for task in tasks) / ROWS_PER_FILE)
        plain = spec_id == table.metadata.default_spec_id and not any(task.delete_files for task in tasks)
        if plain and small >= FEWEST_SMALL_FILES and after <= len(tasks) // 2:
            ordered = sorted(tasks, key=lambda task: task.file.file_path)
            found.append(Group(tasks=tuple(ordered), files_after=after))
    return found


def compact(name: str, load: Load, queue: Queue) -> tuple[int, int]:
    """Write the small files of a table's partitions anew, one commit for each partition; readers see no difference.

    Memory is bounded by one new file. A kill leaves the old files or the new ones in the table, and at worst files that
    nothing names.

    Args:
        load: loads the table as it is now.
        queue: gives the context in which a commit stands.

    Returns:
        How many files were replaced, and by how many.
    """
    before = after = 0
    table = load()
    for group in groups(table):
        rows = (pa.Table.from_batches([batch]) for batch in read_files(table, group.tasks))
        staged = write_files(table.io, f"{table.location()}/data/compacted", table.schema(), rows, name)
        if _commit(staged, group, table.metadata.default_spec_id, load, queue):
            before, after = before + len(group.tasks), after + len(staged.paths)
        else:
            delete_files(table.io, staged.paths)
    return before, after


def _commit(staged: Staged, group: Group, spec_id: int, load: Load, queue: Queue) -> bool:
    """Put the new files in the place of the old; False when others changed these files or the columns meanwhile."""
    from pyiceberg.exceptions import CommitFailedException

    write = f"compaction-{uuid.uuid4().hex}"
    for _ in range(MOST_ATTEMPTS):
        try:
            with queue():
                table = load()
                if landed(table, write):
                    return True  # the answer to the commit was lost
                present = {task.file.file_path for task in table.scan().plan_files()} if table.current_snapshot() else set()
                same = column_ids(table.schema()) == staged.columns and table.metadata.default_spec_id == spec_id
                if not same or not present.issuperset(group.paths):
                    return False
                _swap(table, staged, group, write)
                return True
        except CommitFailedException:
            continue  # somebody else committed first: look again whether these files are still the table's
    return False


def _swap(table: "Table", staged: Staged, group: Group, write: str) -> None:
    from pyiceberg.io.pyarrow import parquet_files_to_data_files

    wrote = origin(table, table.current_snapshot())
    assert wrote is not None  # noqa: S101  a table with files has a version
    note = {TOKEN: content_token(wrote), COMPACTS: str(wrote.snapshot_id), WRITE: write}
    # pyiceberg's own retry would keep this token when others changed rows meanwhile
    properties = {**table.metadata.properties, "commit.retry.num-retries": "0"}
    table.metadata = table.metadata.model_copy(update={"properties": properties})
    transaction = table.transaction()
    with transaction.update_snapshot(snapshot_properties=note).overwrite() as update:
        for task in group.tasks:
            update.delete_data_file(task.file)
        for file in parquet_files_to_data_files(table.io, table.metadata, iter(staged.paths)):
            update.append_data_file(file)
    transaction.commit_transaction()
