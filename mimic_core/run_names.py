"""Run names: what the runs of an experiment are called among each other, and in what they differ."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mimic_core.specs import OPERATIONAL, RunSpec

SEED, LAYERS = "seed", "layers"
LAYERS_FILE = "layers file"
LONGEST_LABEL = 24
LONGEST = 32  # characters of a value


def name_run(spec: RunSpec) -> str:
    """Name the model of a run.

    >>> shared = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["a", "b"]}
    >>> shared |= {"database": "haven", "table": "results", "interactions": [["a", "b"]]}
    >>> name_run(RunSpec(**shared, model={"layers": []}))
    'linear + 1 interaction'
    >>> name_run(RunSpec(**shared, model={"layers": ["D32", "D16"]}))
    'D32, D16 + 1 interaction'
    """
    name = "linear" if spec.model.linear else ", ".join(spec.model.layers)
    made = len(spec.columns.left)
    return f"{name} + {made} interaction{'s' if made > 1 else ''}" if made else name


def differences_of(specs: Sequence[RunSpec], layers: Sequence[str]) -> list[dict[str, str]]:
    """Say of each run what it has otherwise than some other run does, but the layers, which its name tells.

    Args:
        layers: the layers file of each.

    Returns:
        Per run, key to value as text; all have the same keys, and a value is empty where the key is unset.
    """
    settings = [_settings(spec, text) for spec, text in zip(specs, layers, strict=True)]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    told = {LAYERS}
    if len({(each[LAYERS], each.get(LAYERS_FILE)) for each in settings}) == len({each[LAYERS] for each in settings}):
        told.add(LAYERS_FILE)  # runs of the same layers have the same file
    differing = [key for key in keys if key not in told and len({each.get(key, "") for each in settings}) > 1]
    return [{key: _cut(each.get(key, "")) for key in differing} for each in settings]


def label_runs(
    specs: Sequence[RunSpec], layers: Sequence[str], apart_from: str = "", longest: int = LONGEST_LABEL
) -> list[str]:
    """Give each run a label of its own: its name; beside runs of one name also what it has otherwise, or its run id.

    Args:
        layers: the layers file of each.
        apart_from: a key that is not told.
        longest: characters that may be added to a name; where it takes more, the run id is.
    """
    names = [name_run(spec) for spec in specs]
    labels = list(names)
    for name in dict.fromkeys(names):
        places = [place for place, each in enumerate(names) if each == name]
        if len(places) > 1:
            differing = differences_of([specs[place] for place in places], [layers[place] for place in places])
            said = [
                ", ".join(f"{key} {value}" for key, value in each.items() if value and key != apart_from)
                for each in differing
            ]
            short = max(map(len, said)) <= longest and len(set(said)) == len(said)
            for place, text in zip(places, said, strict=True):
                added = (f", {text}" if text else "") if short else f" {specs[place].run_id[:8]}"
                labels[place] = name + added
    return labels


def same_but_seed(specs: Sequence[RunSpec], layers: Sequence[str]) -> list[list[int]]:
    """Group runs that differ by their seed only; returns the places of those of each group, which has two at least."""
    groups: dict[str, list[int]] = {}
    for place, (spec, text) in enumerate(zip(specs, layers, strict=True)):
        settings = _settings(spec, text)
        settings.pop(SEED, None)
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _settings(spec: RunSpec, layers: str) -> dict[str, str]:
    document = {name: value for name, value in spec.document.items() if name not in OPERATIONAL}
    model: Mapping[str, Any] = document.pop("model")
    found = {name: _text(value) for name, value in (dict(model) | document).items()}
    if not spec.model.linear:  # its layers file says nothing about a linear model
        found[LAYERS_FILE] = hashlib.sha256(layers.encode()).hexdigest()[:8]
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"class_name", "config"}:  # a schedule
        return f"{value['class_name']}({', '.join(_text(item) for item in value['config'].values())})"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(":".join(map(_text, item)) if isinstance(item, list) else _text(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    begin, comma, _ = text[: LONGEST - 9].rpartition(", ")
    return f"{begin}, ... ({text.count(', ') + 1})" if comma else f"{text[: LONGEST - 3]}..."
