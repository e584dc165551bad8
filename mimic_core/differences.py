"""Differences: what a person is told about why a partition is not what its spec and its inputs would make now."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_core.specs import defining
from mimic_core.world import CODE_VERSIONS, CONTRAST, Node, Registered, World, input_of


def differences(
    wants: Registered, manifest: Mapping[str, Any] | None, world: World, current: Sequence[Node]
) -> tuple[str, ...]:
    """Say what differs between what is published and what should be; nothing when it is the same.

    Args:
        current: the upstream partitions that are; what the others will hold is not known yet.
    """
    if manifest is None:
        return ("nothing is built",)
    if "error" in manifest:
        return (str(manifest["error"]),)
    said = list(manifest.get("gone", ()))
    if wants.node.asset == CONTRAST and (table := world.contrasts.get(wants.node.key)) is not None and table.error:
        said.append(table.error)
    if manifest["spec_digest"] != wants.digest:
        said += _spec_changes(*(defining(json.loads(text)) for text in (manifest["spec"], wants.document)))
    code_version = CODE_VERSIONS[wants.node.asset]
    if manifest["code_version"] != code_version:
        said.append(f"the code of {wants.node.asset} changed from version {manifest['code_version']} to {code_version}")
    before = manifest["inputs"]
    for above in current:
        said += _input_changes(above.asset, before.get(above.asset), input_of(above, wants, world))
    if len(current) == len(world.upstream(wants.node)):
        said += [
            f"no longer reads {_named(asset, before[asset])}"
            for asset in before
            if asset not in {up.asset for up in current}
        ]
    return tuple(said)


def _spec_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not names:
        return ["the layers file changed"]
    return [f"{name} changed from {_said(before.get(name))} to {_said(after.get(name))} in the spec" for name in names]


def _input_changes(asset: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    if old == new:
        return []
    names = [each.get("name", each.get("key")) for each in (old or {}, new or {})]
    if old is None or new is None or names[0] != names[1]:
        return [f"reads {_named(asset, new)} instead of {_named(asset, old)}"]
    versions = [each.get("token", each.get("fingerprint")) for each in (old, new)]
    if versions[0] != versions[1]:
        return [f"{asset} {names[0]} changed from {versions[0][:12]} to {versions[1][:12]}"]
    columns = [each.get("columns", {}) for each in (old, new)]
    changed = [name for name in {**columns[0], **columns[1]} if columns[0].get(name) != columns[1].get(name)]
    shown = [(name, *(_column(each.get(name)) for each in columns)) for name in changed]
    return [f"column {name} of {asset} {names[0]} changed from {was} to {now}" for name, was, now in shown]


def _named(asset: str, facts: Mapping[str, Any] | None) -> str:
    return f"{asset} {facts.get('name', facts.get('key'))}" if facts else f"no {asset}"


def _column(facts: Mapping[str, Any] | None) -> str:
    return "none" if facts is None else f"{facts['type']} (id {facts['id']})"


def _said(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
