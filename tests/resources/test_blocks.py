"""Blocks: every row of a part once, whole individuals in their order, held or spilled, whatever the order of the table."""

import resource
import tempfile
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic_core.errors import ConflictError, StorageError
from mimic_core.identifiers import surrogates
from mimic_core.shards import Part, Shard, plan_parts, shard_index
from mimic_core.sources import SPLITS
from resources import blocks, staging
from resources.environments import local_resources
from resources.reading import groups_of
from resources.tables import RESULTS, SOURCE, Pin, TableStore

NAME = "haven.features"
SCHEMA = pa.schema([("_individual", pa.int64()), ("_train", pa.bool_()), ("size", pa.float64()), ("row", pa.int64())])
INT64 = pa.int64()
EXTREMES = [0, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TableStore:
    return local_resources(tmp_path_factory.mktemp("home"))["tables"]


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path / "mimic")["tables"]


def table(individual, train=None, kind=INT64) -> pa.Table:
    """Return a table of these individuals, its rows numbered; every fourth individual is a test one unless told."""
    ids = pa.array(individual, kind)
    train = [value % 4 != 0 for value in surrogates(ids).tolist()] if train is None else train
    rows = range(len(ids))
    columns = [
        ids,
        pa.array(train, pa.bool_()),
        pa.array([row / 2 for row in rows], pa.float64()),
        pa.array(rows, pa.int64()),
    ]
    return pa.table(columns, schema=SCHEMA.set(0, pa.field("_individual", kind)))


def imported(tables: TableStore, name: str, source: pa.Table, files: int, group: int) -> Pin:
    """Make a table of a source in several files of small row groups."""
    tables.ensure(name, source.schema, kind=SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "ROWS_PER_GROUP", group)
        staged = [tables.stage(name, [part], f"{number:02d}") for number, part in enumerate(cut(source, files))]
    return tables.replace(name, staged, None)


def registered(tables: TableStore, folder: Path, source: pa.Table, files: int, group: int) -> Pin:
    """Register a source in several files of small row groups where they lie, again if it is registered."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(cut(source, files)):
        pq.write_table(part, folder / f"{number:02d}.parquet", row_group_size=group)
    return tables.register(f"haven.{folder.name}", folder)


def cut(source: pa.Table, files: int) -> list[pa.Table]:
    bounds = pairwise([len(source) * number // files for number in range(files + 1)])
    return [source.slice(start, end - start) for start, end in bounds]


def read(tables: TableStore, pin: Pin, part: Part, *on_spill: Callable[[float], None]) -> list[pa.Table]:
    return list(tables.blocks(pin, tables.schema_of(pin), part, *on_spill))


def holds(shard: Shard, individual: int, train: bool) -> bool:
    if shard.span:
        mine = shard.span[0] <= individual <= shard.span[1]
    else:
        mine = shard_index(np.array([individual]), shard.count)[0] == shard.index
    return bool(mine) and train == (shard.split == "train")


def expected_rows(source: pa.Table, part: Part) -> list[int]:
    """Return the numbers of the rows of a part, straight from what its shards say: no flag is false, no id is 0."""
    ids = surrogates(source["_individual"])
    train = np.array([bool(value) for value in source["_train"].to_pylist()], bool)
    return [row for row in range(len(source)) if any(holds(shard, int(ids[row]), train[row]) for shard in part.shards)]


def require_whole(found: list[pa.Table], source: pa.Table, part: Part) -> None:
    """Check that blocks are the rows of a part: each once and as it was, whole individuals, in their order."""
    rows = [row for block in found for row in block["row"].to_pylist()]
    assert sorted(rows) == expected_rows(source, part)
    assert all(block.schema == source.schema and len(block) for block in found)
    if found:
        assert pa.concat_tables(found).sort_by("row") == source.take(pa.array(sorted(rows)))
    ids = [surrogates(block["_individual"]) for block in found]
    assert all(before.max() < after.min() for before, after in pairwise(ids))


def orders(count: int, decisions: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return individuals of `decisions` rows each in several orders."""
    ordered = np.repeat(np.arange(-count // 2, count - count // 2), decisions)
    random = np.random.default_rng(seed)
    return {
        "sorted": ordered,
        "reversed": ordered[::-1],
        "shuffled": random.permutation(ordered),
        "nearly sorted": ordered[np.argsort(np.arange(len(ordered)) + random.uniform(0, 15, len(ordered)))],
        "in turn": np.tile(np.arange(count), decisions),
    }


WAYS: dict[str, dict[str, int]] = {
    "held": {},
    "cut often": {"FEWEST_ROWS": 1},
    "spilled": {"BYTES_HELD": 400, "FEWEST_ROWS": 1},
    "spilled to few files from a small sample": {"BYTES_HELD": 1, "MOST_FILES": 5, "SAMPLE": 10},
}


SPILLED = {
    "held": (),
    "cut often": (),
    "spilled": ("shuffled", "nearly sorted", "in turn"),
    "spilled to few files from a small sample": tuple(orders(1, 1)),
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch) -> str:
    """How many rows may be held: enough for all, or so few that blocks are cut and spilled often."""
    for name, value in WAYS[request.param].items():
        monkeypatch.setattr(blocks, name, value)
    return str(request.param)


@pytest.fixture(scope="module")
def pins(tmp_path_factory, store) -> dict[tuple[str, str], tuple[Pin, pa.Table]]:
    """The same individuals in every order, imported and registered."""
    folder, made = tmp_path_factory.mktemp("files"), {}
    for order, individual in orders(20, 4).items():
        source, name = table(individual), order.replace(" ", "_")
        made[order, "imported"] = imported(store, f"lion.{name}", source, 3, 5), source
        made[order, "registered"] = registered(store, folder / name, source, 3, 5), source
    return made


@pytest.mark.parametrize("order", orders(1, 1))
def test_every_row_of_a_part_comes_once_in_whole_individuals_in_their_order(store, pins, way, order):
    for how in ("imported", "registered"):
        pin, source = pins[order, how]
        groups = store.row_groups(pin)
        assert [(group.rows, group.lowest is not None) for group in groups][:2] == [(5, True)] * 2
        spilled: list[float] = []
        for partitions in ({"train": 1, "test": 1}, {"train": 3, "test": 3}, {"train": 3, "test": 1}):
            parts = plan_parts(partitions, groups)
            for part in parts:
                require_whole(read(store, pin, part, spilled.append), source, part)
            assert sum(len(expected_rows(source, part)) for part in parts) == len(source)
        assert bool(spilled) == (order in SPILLED[way])


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_whoever_reads_is_told_how_far_it_is(store, pins, monkeypatch, order):
    if order == "shuffled":
        monkeypatch.setattr(blocks, "BYTES_HELD", 1)
    pin, source = pins[order, "registered"]
    (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
    told: list[tuple[str, int, int]] = []
    list(store.blocks(pin, SCHEMA, part, on_rows=lambda stage, done, total: told.append((stage, done, total))))
    stages = {"sorted": ["read"], "shuffled": ["looked through", "read and written to temporary files", "done"]}[order]
    last = {stage: (done, total) for stage, done, total in told}
    assert last == dict.fromkeys(stages, (len(source), len(source)))


def test_rows_in_the_order_of_their_individuals_are_held_no_longer_than_their_row_groups(store, pins, monkeypatch):
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 1)
    monkeypatch.setattr(blocks, "BYTES_HELD", 11 * blocks.row_bytes(SCHEMA))  # two row groups and a last one of a file
    pin, source = pins["sorted", "registered"]
    (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
    spilled: list[float] = []
    found = read(store, pin, part, spilled.append)
    assert spilled == []
    assert max(map(len, found)) <= 11
    require_whole(found, source, part)


def test_fewer_rows_than_a_block_should_have_wait_for_more(store, pins, monkeypatch):
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 18)
    pin, source = pins["sorted", "imported"]
    (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
    found = read(store, pin, part)
    assert len(found) > 2
    assert min(len(block) for block in found[:-1]) >= 14  # of the rows that are counted an individual's may wait
    require_whole(found, source, part)


IDS = st.one_of(st.integers(-2, 9), st.sampled_from(EXTREMES), st.integers(-(2**63), 2**63 - 1))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    ids=st.lists(st.tuples(st.one_of(IDS, IDS, IDS, st.none()), st.sampled_from([True, True, False, None])), max_size=30),
    presorted=st.booleans(),
    kind=st.sampled_from([pa.int64(), pa.string()]),
    partitions=st.sampled_from([{"train": 1, "test": 1}, {"train": 3, "test": 2}, {"train": 2, "test": 2}]),
    way=st.sampled_from(list(WAYS)),
    group=st.integers(1, 4),
)
def test_any_ids_and_flags_fall_to_one_block_each(store, anywhere, ids, presorted, kind, partitions, way, group):
    """A null `_individual` counts as 0 and a null `_train` as false, so that the contract sees every row."""
    ids = sorted(ids, key=lambda row: (row[0] is None, row[0] or 0)) if presorted else ids
    individual = [i if i is None or kind == pa.int64() else f"id {i}" for i, _ in ids]
    source = table([*individual, individual[0] if ids else None], [*(train for _, train in ids), None], kind)
    pin = registered(store, anywhere, source, 1, group)
    groups = store.row_groups(pin)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setattr(blocks, name, value)
        for known in (groups, None):
            parts = plan_parts(partitions, known)
            for part in parts:
                require_whole(read(store, pin, part), source, part)
            assert sorted(row for part in parts for row in expected_rows(source, part)) == list(range(len(source)))


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory) -> Path:
    return Path(tmp_path_factory.mktemp("files") / "anywhere")


def test_without_a_train_column_every_row_is_a_test_row(store, tmp_path, way):
    source = table([3, 1, 2, 1]).drop_columns("_train")
    pin = registered(store, tmp_path / "unlabelled", source, 1, 1)
    train, test = (
        Part(index=0, shards=(Shard(split=split, index=0, count=1),), row_groups=tuple(store.row_groups(pin)), whole=False)
        for split in SPLITS
    )
    assert read(store, pin, train) == []
    assert sorted(row for block in read(store, pin, test) for row in block["row"].to_pylist()) == [0, 1, 2, 3]


def test_a_part_without_rows_has_no_blocks(store, pins, tmp_path, way):
    pin, _ = pins["shuffled", "registered"]
    shard = Shard(split="train", index=0, count=1, span=(1000, 2000))
    assert read(store, pin, Part(index=0, shards=(shard,), row_groups=tuple(store.row_groups(pin)), whole=False)) == []
    assert read(store, pin, Part(index=0, shards=(shard,), row_groups=(), whole=False)) == []


def test_a_block_has_the_columns_that_are_asked_for_in_their_order(store, pins, way):
    for how in ("imported", "registered"):
        pin, source = pins["in turn", how]
        (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
        columns = pa.schema([SCHEMA.field(name) for name in ("row", "_individual")])
        found = pa.concat_tables(store.blocks(pin, columns, Part(**vars(part) | {"shards": part.shards[1:]})))
        assert found.schema == columns
        assert found.sort_by("row") == source.select(["row", "_individual"])  # without flags all are test rows


def test_a_row_group_of_another_version_of_the_table_is_not_read(tables):
    pin = imported(tables, NAME, table([1, 2, 3]), 1, 1)
    imported(tables, NAME, table([7, 8]), 1, 1)
    assert [group.lowest for group in tables.row_groups(pin)] == [1, 2, 3]
    (part,) = plan_parts({"train": 1, "test": 1}, tables.row_groups(pin))
    assert pa.concat_tables(read(tables, pin, part))["_individual"].to_pylist() == [1, 2, 3]


def test_a_table_that_holds_no_version_has_no_row_groups(tables):
    tables.ensure(NAME, SCHEMA, kind=RESULTS)
    pin = tables.pin(NAME)
    assert tables.row_groups(pin) == []
    assert read(tables, pin, plan_parts({"train": 1, "test": 1}, [])[0]) == []


def test_files_that_change_between_plan_and_step_are_a_conflict(tables, tmp_path, way):
    pin = registered(tables, tmp_path / "features", table(range(12)), 2, 2)
    (part,) = plan_parts({"train": 1, "test": 1}, tables.row_groups(pin))
    registered(tables, tmp_path / "features", table(range(30)), 2, 2)
    with pytest.raises(ConflictError, match=r"table haven\.features: its files at .* were changed since this build began"):
        read(tables, pin, part)
    with pytest.raises(ConflictError, match="were changed since this build began"):
        tables.row_groups(pin)


# ---- what row groups are known to hold


def described(tmp_path: Path, ids: pa.Array, train: pa.Array | None = None, **options: object) -> list[tuple]:
    """Return bounds and splits of the row groups of a file."""
    columns = {"_individual": ids} | ({} if train is None else {"_train": train})
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", **options)
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        groups = groups_of(file, "a.parquet", {name: name for name in columns})
    assert [group.index for group in groups] == list(range(len(groups)))
    return [(group.lowest, group.highest, group.splits) for group in groups]


def test_bounds_of_row_groups_are_those_of_their_ids(tmp_path):
    extremes = pa.array([-(2**63), 0, 2**63 - 1, 2**53 + 1])
    assert described(tmp_path, extremes, row_group_size=2) == [(-(2**63), 0, SPLITS), (2**53 + 1, 2**63 - 1, SPLITS)]
    for kind in (pa.int8(), pa.uint8(), pa.uint32(), pa.uint64()):
        assert described(tmp_path, pa.array([7, 100], kind)) == [(7, 100, SPLITS)]
    assert described(tmp_path, pa.array([5, 2**32 - 1], pa.uint32())) == [(5, 2**32 - 1, SPLITS)]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1, None]),
        pa.array([None, None], pa.int64()),
        pa.array(["7", "8"]),
        pa.array([7.0, 8.0]),
        pa.array([True, False]),
        pa.array([Decimal("7.00"), Decimal("8.00")], pa.decimal128(5, 2)),
    ],
    ids=lambda ids: str(ids.type),
)
def test_bounds_are_not_known_where_ids_are_missing_or_no_integers(tmp_path, ids):
    for options in ({}, {"store_decimal_as_integer": True}):
        assert described(tmp_path, ids, **options) == [(None, None, SPLITS)]


def test_bounds_are_not_known_without_statistics(tmp_path):
    whole = pa.array([True, True])
    assert described(tmp_path, pa.array([1, 2]), whole, write_statistics=False) == [(None, None, SPLITS)]


@pytest.mark.parametrize(
    ("train", "splits"),
    [
        (pa.array([True, True]), ("train",)),
        (pa.array([False, False]), ("test",)),
        (pa.array([True, False]), SPLITS),
        (pa.array([1, 1]), ("train",)),
        (pa.array([0, 0], pa.uint8()), ("test",)),
        (pa.array([True, None]), SPLITS),
        (pa.array([None, None], pa.bool_()), SPLITS),
        (pa.array(["true", "true"]), SPLITS),
        (pa.array([1.0, float("nan")]), SPLITS),
    ],
    ids=str,
)
def test_a_row_group_holds_one_split_only_where_no_flag_can_be_another_or_missing(tmp_path, train, splits):
    """Parquet leaves NaN, which is how pandas writes a missing flag, out of the bounds of a column."""
    assert described(tmp_path, pa.array([1, 2]), train) == [(1, 2, splits)]


def test_a_row_group_without_rows_is_none(tmp_path):
    assert described(tmp_path, pa.array([], pa.int64())) == []


# ---- spilling


@pytest.fixture
def shuffled(store, pins, monkeypatch) -> Callable[[], list[pa.Table]]:
    """Give what reads a table that has to be spilled."""
    monkeypatch.setattr(blocks, "BYTES_HELD", 400)
    pin, _ = pins["shuffled", "registered"]
    (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
    return lambda: read(store, pin, part)


def test_temporary_files_are_gone_when_all_blocks_are_read_or_the_reader_stops(shuffled, store, pins, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(shuffled()) > 3
    assert list(tmp_path.iterdir()) == []
    pin, _ = pins["shuffled", "registered"]
    (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
    stream = store.blocks(pin, SCHEMA, part)
    next(stream)
    (folder,) = tmp_path.iterdir()
    files = len(list(folder.iterdir()))
    next(stream)
    assert (folder.name[:6], len(list(folder.iterdir()))) == ("mimic-", files - 1)
    stream.close()
    assert list(tmp_path.iterdir()) == []


def test_no_more_temporary_files_are_open_at_once_than_may_be(store, pins, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, value in WAYS["spilled to few files from a small sample"].items():
        monkeypatch.setattr(blocks, name, value)
    pin, source = pins["shuffled", "registered"]
    (part,) = plan_parts({"train": 1, "test": 1}, store.row_groups(pin))
    stream = store.blocks(pin, SCHEMA, part)
    found = [next(stream)]
    assert len(list(tmp_path.glob("mimic-*/*"))) == blocks.MOST_FILES
    found += stream
    assert len(found) == blocks.MOST_FILES
    require_whole(found, source, part)


def batches_of(individual: np.ndarray, rows: int) -> list[pa.RecordBatch]:
    ids = pa.record_batch({"_individual": individual, "_train": individual >= 0})
    return [ids.slice(start, rows) for start in range(0, len(ids), rows)]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    individuals=st.integers(50, 300),
    giant=st.sampled_from([0, 0, 100, 2000]),
    order=st.sampled_from([*orders(1, 1)]),
    files=st.integers(1, 8),
    batch=st.integers(50, 500),
    seed=st.integers(0, 2**32 - 1),
)
def test_temporary_files_are_of_about_the_same_size(individuals, giant, order, files, batch, seed):
    """None is longer than twice their mean, unless one individual has more rows than that mean."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 40, individuals)
    sizes[generator.integers(individuals)] += giant
    ids = np.repeat(np.sort(generator.choice(10**6, individuals, replace=False)), sizes)
    ranks = {
        "sorted": np.arange(len(ids)),
        "reversed": -np.arange(len(ids)),
        "shuffled": generator.random(len(ids)),
        "nearly sorted": np.arange(len(ids)) + generator.uniform(0, 100, len(ids)),
        "in turn": np.concatenate([np.arange(size) for size in sizes]),
    }
    source = batches_of(ids[np.argsort(ranks[order], kind="stable")], batch)
    (part,) = plan_parts({"train": 1, "test": 1}, None)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BYTES_HELD": 1, "MOST_FILES": files, "SAMPLE": 400}.items():
            patch.setattr(blocks, name, value)
        found = list(blocks.spilled_blocks(part, source, source, source[0].schema, 1))
    assert sum(map(len, found)) == len(ids)
    mean = len(ids) / files
    largest = [np.unique(block["_individual"], return_counts=True)[1].max() for block in found]
    assert all(len(block) <= 2 * mean or rows > mean for block, rows in zip(found, largest, strict=True))


def test_a_temporary_folder_that_is_not_there_is_named_with_what_to_do(shuffled, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    expected = "none: rows of a table in no order, .* could not be written: No such file or directory; give TMPDIR a folder"
    with pytest.raises(StorageError, match=expected):
        shuffled()


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_files_that_cannot_be_written_are_said_so_and_nothing_is_left(shuffled, tmp_path, monkeypatch, size):
    """A limit on the size of files fails as a full disk does, at the first bytes of a file or later."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(StorageError, match=f"{tmp_path}: rows of a table in no order, .* could not be written: "):
            shuffled()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
