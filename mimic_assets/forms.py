"""Forms: the launchpad's typed view of the specs, made from the specs themselves, and the way back from a form to specs."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from inspect import isclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model

from mimic_assets.registration import New, runs_of
from mimic_core.configs import collect, parse_spec
from mimic_core.documents import Spec
from mimic_core.errors import SpecError
from mimic_core.layers_files import KNOWN
from mimic_core.specs import ExperimentSpec, PartitionSpec
from resources.environments import layers_code_allowed

BUILD = Field(False, description="Also build what is registered: the daemon starts a run for each partition.")
LAYERS = Field(
    None,
    description="Text of the layers file: Python that defines LAYERS, a dict of functions that make a Keras layer; it is "
    "executed. A text of several lines goes below `layers_file: |`, indented. Not needed for layers named "
    f"{KNOWN}.",
)


@cache
def spec_form(kind: type[Spec]) -> type[dg.Config]:
    """Make the config class of a spec: the same keys with their descriptions, plain types, None for every unset key."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        plain = _plain(field.annotation)
        about = " ".join([field.description or "", *(f"Example: {json.dumps(value)}." for value in field.examples or ())])
        if field.is_required():
            fields[name] = (plain, Field(description=about))
        else:
            default = field.get_default(call_default_factory=True)
            said = f"{about} Default: {'unset' if default is None else json.dumps(default)}."
            fields[name] = (plain | None, Field(None, description=said))
    return create_model(kind.__name__.replace("Spec", "Form"), __base__=dg.Config, __doc__=kind.__doc__, **fields)


@cache
def registration_form(kind: type[Spec]) -> type[dg.Config]:
    """Make the config class of a registration: any number of specs, and whether to build them."""
    fields: dict[str, Any] = {
        "specs": (list[spec_form(kind)], Field(description="What to register; any number of specs.")),  # type: ignore[misc]
        "build": (bool, BUILD),
    }
    if kind is ExperimentSpec:
        fields["layers_file"] = (str | None, LAYERS)
    return create_model(f"Register{spec_form(kind).__name__}", __base__=dg.Config, **fields)


def example(kind: type[Spec]) -> dict[str, Any]:
    """Return the form of a spec filled in with an example."""
    folder = files("mimic_assets").joinpath("examples")
    text = folder.joinpath(f"{kind.__name__.removesuffix('Spec').lower()}.json").read_text(encoding="utf-8")
    filled: dict[str, Any] = {"build": False, "specs": [json.loads(text)]}
    if kind is ExperimentSpec and layers_code_allowed():
        filled["layers_file"] = folder.joinpath("layers.py").read_text(encoding="utf-8")
    return filled


def parse_form(kind: type[PartitionSpec], form: dict[str, Any]) -> list[New]:
    """Turn a filled-in form into specs to register, each with its layers file.

    Raises:
        SpecError: every problem of every spec, each with its path; or two specs of one key.
    """
    if not form["specs"]:
        raise SpecError("specs: expected at least one spec, found []")
    parsed = collect(lambda item: parse_spec(kind, item[1], f"specs[{item[0]}]"), enumerate(form["specs"]))

    layers = form.get("layers_file")
    layers = layers if layers and layers.strip() else None

    def parts(item: tuple[int, PartitionSpec]) -> list[New]:
        index, spec = item
        if isinstance(spec, ExperimentSpec):
            return list(runs_of(spec, layers, f"specs[{index}]", "layers_file"))
        return [(spec, "")]

    new = [part for found in collect(parts, enumerate(parsed)) for part in found]
    _require_different([spec.key for spec, _ in new])
    return new


def _require_different(keys: Sequence[str]) -> None:
    repeated = [f"{key} stands {count} times" for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise SpecError(f"specs: {', '.join(repeated)}; give each partition one spec")


def _plain(kind: Any) -> Any:
    """Strip a type of its constraints, which `parse_spec` checks with messages of its own."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, UnionType):
        return next(_plain(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return str
    if origin is tuple:
        return list[_plain(arguments[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[str, _plain(arguments[1]) | None]  # type: ignore[misc]
    if isclass(kind) and issubclass(kind, Spec):
        return spec_form(kind)
    return kind
