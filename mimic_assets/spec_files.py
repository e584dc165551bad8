"""Spec files: the config files of the spec folder are registered; what came from files that are gone is named."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import dagster as dg

from mimic_assets.failures import attempt
from mimic_assets.registration import New, pair_runs, register
from mimic_core.configs import parse_spec, read_document, read_text
from mimic_core.spec_files import claimed_twice, kind_of
from mimic_core.specs import ExperimentSpec, spec_digest
from mimic_core.world import Node, Registered
from resources.spec_folder import FirstBuild, Found, Noted, Origin, Record
from resources.specs import SpecStore


def read_files(found: Mapping[str, Found], record: Record, now: float) -> tuple[Record, dict[str, list[New]]]:
    """Read the files that are new or changed; returns also what is to be registered, by file.

    Args:
        found: the files that there are; one that was changed a moment ago stays as it was noted.
        record: what was made of the folder before.
        now: in seconds since 1970.
    """
    files = dict(record.files)
    for name in files.keys() - found.keys():
        files[name] = replace(files[name], gone_since=files[name].gone_since or now)
    new: dict[str, list[New]] = {}
    for name, file in found.items():
        if name in files and files[name].gone_since:
            files[name] = replace(files[name], gone_since=0.0)
        if file.problem or (not file.fresh and (name not in files or files[name].stamp != file.stamp)):
            files[name], new[name] = _read(file, files.get(name, Noted(stamp="")))
    read = replace(record, files=files)
    for name, problem in claimed_twice({name: noted.keys for name, noted in read.present.items()}).items():
        files[name] = _refused(files[name], files[name].problem or problem)
    before = {name: noted.digest for name, noted in record.files.items()}
    changed = {
        name: items for name, items in new.items() if not files[name].problem and files[name].digest != before.get(name)
    }
    return read, changed


def claim(specs: SpecStore, record: Record, new: Mapping[str, list[New]]) -> dict[Node, Origin]:
    """Say of what is to be registered whether it was registered before by somebody else, and whether it is to be built.

    To be kept before it is registered: after a kill nobody could tell any more.
    """
    found = {}
    for spec, layers in (item for items in new.values() for item in items):
        node = Node(spec.asset, spec.key)
        there, before = specs.has(*node), record.partitions.get(node)
        built = there and before is not None and before.first_build == FirstBuild.DONE
        found[node] = Origin(
            digest=spec_digest(spec.document, layers),
            ours=not there or (before is not None and before.ours),
            first_build=FirstBuild.DONE if built else FirstBuild.MANUAL if spec.refresh == "manual" else FirstBuild.WAITS,
        )
    return found


def register_files(
    instance: dg.DagsterInstance,
    specs: SpecStore,
    record: Record,
    new: Mapping[str, list[New]],
    claimed: Mapping[Node, Origin],
) -> Record:
    """Register what files define; a file that cannot be is noted with its problem, and the others go on."""
    files, partitions = dict(record.files), dict(record.partitions)
    for name, items in new.items():
        _, problem = attempt(register, instance, specs, items)
        if problem:
            files[name] = _refused(files[name], f"{name}: {problem}")
        else:
            partitions |= {node: claimed[node] for node in files[name].keys}
    return Record(files=files, partitions=partitions)


def dropped_by(before: Record, record: Record) -> dict[Node, str]:
    """Return the partitions that a file, which is still there, does not define any more, nor does any other."""
    defined = {node for noted in record.files.values() for node in noted.keys}
    return {
        node: name for name, noted in before.files.items() if name in record.present for node in set(noted.keys) - defined
    }


def given_up(record: Record, found: Mapping[str, Found], now: float, settle_seconds: float) -> list[str]:
    """Return the files that are gone for good: not found for some time, at two ticks at least.

    None while another was changed a moment ago or has a problem: it could define what those did.
    """
    if any(file.fresh for file in found.values()) or any(noted.problem for noted in record.present.values()):
        return []
    gone = {name: noted.gone_since for name, noted in record.files.items() if noted.gone_since}
    return [name for name, since in gone.items() if since < now and now - since >= settle_seconds]


def may_not_retire(node: Node, origin: Origin, wants: Registered) -> str:
    """Say why a partition stays registered though its file is gone: it is not, or not only, from there; else empty."""
    if not origin.ours:
        return f"{node} stays registered, because it was before a file of the spec folder defined it"
    if origin.digest != wants.digest:
        return f"{node} stays registered, because it was registered with another spec since its file was"
    return ""


def _read(file: Found, before: Noted) -> tuple[Noted, list[New]]:
    if file.problem:
        return _refused(before, file.problem), []
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
