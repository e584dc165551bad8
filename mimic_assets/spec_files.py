"""Spec files: the config files of the spec folder are registered; what came from files that are gone is named."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import dagster as dg

from mimic_assets.failures import attempt
from mimic_assets.registration import New, pair_runs, register
from mimic_core.configs import parse_spec, read_document, read_text
from mimic_core.spec_files import claimed_twice, kind_of
from mimic_core.specs import ExperimentSpec
from mimic_core.world import Node
from resources.spec_folder import Found, Noted, Record
from resources.specs import SpecStore


def register_files(instance: dg.DagsterInstance, specs: SpecStore, found: Mapping[str, Found], record: Record) -> Record:
    """Register the files that are new or changed; one that cannot be is noted with its problem, and the others go on.

    Args:
        found: the files that there are; one that was changed a moment ago stays as it was noted.
        record: what was made of the folder before.
    """
    files = {name: record.files[name] for name in found if name in record.files}
    new: dict[str, list[New]] = {}
    for name, file in found.items():
        if not file.fresh and (name not in files or files[name].stamp != file.stamp):
            files[name], new[name] = _read(file, files.get(name, Noted(stamp="")))
    for name, problem in claimed_twice({name: noted.keys for name, noted in files.items()}).items():
        files[name] = _refused(files[name], files[name].problem or problem)
    partitions = dict(record.partitions)
    for name, items in new.items():
        if files[name].problem:
            continue
        before = record.files.get(name)
        if before is None or before.digest != files[name].digest:
            _, problem = attempt(register, instance, specs, items)
            if problem:
                files[name] = _refused(files[name], f"{found[name].path}: {problem}")
                continue
        partitions |= {node: partitions.get(node, False) for node in files[name].keys}
    return Record(files=files, partitions=partitions)


def gone_from(record: Record) -> set[Node]:
    """Return the partitions that were registered from files, and that no file defines any more.

    A file that cannot be read now counts with what it defined when it could be.
    """
    defined = {node for noted in record.files.values() for node in noted.keys}
    return set(record.partitions) - defined


def _read(file: Found, before: Noted) -> tuple[Noted, list[New]]:
    found, problem = attempt(_parse, file)
    if found is None:
        return _refused(before, problem), []
    new, digest = found
    return Noted(stamp=file.stamp, digest=digest, keys=tuple(Node(spec.asset, spec.key) for spec, _ in new)), new


def _parse(file: Found) -> tuple[list[New], str]:
    """Read a config and, of an experiment, its layers file, which is not executed here: its runs check it."""
    where = str(file.path)
    document = read_document(file.path)
    spec = parse_spec(kind_of(document, where), document, where)
    layers = read_text(file.layers) if file.layers and isinstance(spec, ExperimentSpec) else None
    new: list[New] = list(pair_runs(spec, layers, where)) if isinstance(spec, ExperimentSpec) else [(spec, "")]
    return new, hashlib.sha256(f"{spec.document}\n{layers}".encode()).hexdigest()[:16]


def _refused(noted: Noted, problem: str) -> Noted:
    return replace(noted, stamp="", digest="", problem=problem)
