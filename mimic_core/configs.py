"""Configs: read a JSON or YAML file and parse it strictly into a spec; every problem is named at once, with its path."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mimic_core.compute import ComputeSpec, Toleration
from mimic_core.documents import Spec, normalise
from mimic_core.errors import SpecError, did_you_mean
from mimic_core.model_specs import EarlyStopping, ExperimentModelSpec, ModelSpec
from mimic_core.specs import OPERATIONAL, SamplingWeights

PATTERN_HELP = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "a name of letters, digits, '.', '_' and '-' that begins with a letter or digit",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "a name of letters, digits and '_' that does not begin with a digit",
    r"^[^_].*$": "a column name that does not begin with '_' (such names are reserved)",
    r"^[0-9a-f]{64}$": "a run id (64 hexadecimal digits; `mimic status` lists them)",
}

S = TypeVar("S", bound=Spec)
T = TypeVar("T")
R = TypeVar("R")


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a config file, JSON or YAML (by its ending: .yaml or .yml, anything else is JSON).

    Raises:
        SpecError: the file is missing, unreadable, not JSON or YAML, repeats a key, or is not an object.
    """
    path = Path(path)
    text = read_text(path)
    try:
        document = _parse_yaml(text, path) if path.suffix in {".yaml", ".yml"} else _parse_json(text, path)
    except RecursionError as error:
        raise SpecError(f"{path}: it is nested too deeply for a config") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path}: expected an object with the keys of a config, found {_described(document)}")
    return document


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        SpecError: the file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"{path}: cannot be read: {reason}") from error


def parse_spec(kind: type[S], document: dict[str, Any], where: str = "config") -> S:
    """Validate a config document; every problem is reported at once, each with its path.

    Args:
        kind: the spec class to make.
        document: the config as read from JSON, YAML or a form; a key that is None counts as unset.
        where: the file or form, for the messages.

    Raises:
        SpecError: one line per problem.

    >>> from mimic_core.specs import DatasetSpec
    >>> parse_spec(DatasetSpec, {"database": "haven"}, "my.json")
    Traceback (most recent call last):
    mimic_core.errors.SpecError: my.json: 5 problems
      table: this key is missing
      max_choices: this key is missing
      features: this key is missing
      space: this key is missing
      dataset: this key is missing
    """
    try:
        return kind.model_validate_json(json.dumps(normalise(document), allow_nan=False), strict=True)
    except ValidationError as error:
        # pydantic calls a list too short when its entries are wrong; only an empty one is
        errors = [e for e in error.errors(include_url=False) if e["type"] != "too_short" or not e["input"]]
        told: set[type[BaseModel]] = set()
        problems = [_problem(kind, dict(e), told) for e in errors]
    except (TypeError, ValueError) as error:
        problems = [f"a value is not one that JSON can hold: {error}"]
    if len(problems) == 1:
        raise SpecError(f"{where}: {problems[0]}")
    raise SpecError(f"{where}: {len(problems)} problems\n  " + "\n  ".join(problems))


def ordered_fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a spec as people should read them: required ones first, those that define nothing last."""
    return dict(sorted(kind.model_fields.items(), key=lambda item: (not item[1].is_required(), item[0] in OPERATIONAL)))


def collect(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function that may refuse its argument to every item, and report the problems of all at once.

    Raises:
        SpecError: one paragraph per item that was refused.
    """
    results, problems = [], []
    for item in items:
        try:
            results.append(function(item))
        except SpecError as error:
            problems.append(str(error))
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))  # a problem that several share stands once
    return results


def _parse_json(text: str, path: Path) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(f"{path}: the key {name!r} stands twice in one object; remove one")
        return dict(items)

    def constant(name: str) -> float:
        raise SpecError(f"{path}: {name} is not a number that JSON knows; give a finite number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        hint = "" if text.strip() else " (the file is empty)"
        raise SpecError(
            f"{path}:{error.lineno}:{error.colno}: this is not JSON: {error.msg}{hint}; "
            "a YAML config needs a name that ends in .yaml"
        ) from error


def _parse_yaml(text: str, path: Path) -> Any:
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        names = [loader.construct_object(key) for key, _ in node.value]
        for name in names:
            if not isinstance(name, str):
                raise SpecError(f"{path}: expected a text as key, found {name!r}")
            if names.count(name) > 1:
                raise SpecError(f"{path}: the key {name!r} stands twice in one object; remove one")
        return dict(zip(names, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))

    UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    # YAML 1.1 reads 2e-3 as a string; people mean the number
    UniqueKeys.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    try:
        return yaml.load(text, UniqueKeys)  # noqa: S506  a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: this is not YAML: {error}") from error


def _problem(kind: type[BaseModel], error: dict[str, Any], told: set[type[BaseModel]]) -> str:
    """Say what is wrong; `told` has the models whose keys were listed before, which once is enough."""
    path = _path(error["loc"])
    reason, found = error["type"], error.get("input")
    if reason == "missing":
        return f"{path}: this key is missing"
    if reason == "extra_forbidden":
        model = _model_at(kind, error["loc"][:-1])
        known = list(ordered_fields(model))
        keys = "" if model in told else f"; the keys are {', '.join(known)}"
        told.add(model)
        return f"{path}: unknown key{did_you_mean(str(error['loc'][-1]), known)}{keys}"
    if reason == "value_error":
        said = str(error["ctx"]["error"])
        if not error["loc"]:
            return said
        # what is wrong with a whole model begins with the key that it concerns
        return f"{path}{'.' if _is_model(error['loc']) else ': '}{said}"
    if reason == "string_pattern_mismatch":
        return f"{path}: expected {PATTERN_HELP[error['ctx']['pattern']]}, found {_described(found)}"
    expected = {
        "int_type": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "finite_number": "a finite number",
        "string_type": "a string",
        "tuple_type": "a list",
        "dict_type": "an object",
        "model_type": "an object",
        "model_attributes_type": "an object",
        "greater_than_equal": f"a number of at least {error.get('ctx', {}).get('ge')}",
        "less_than_equal": f"a number of at most {error.get('ctx', {}).get('le')}",
        "greater_than": f"a number greater than {error.get('ctx', {}).get('gt')}",
        "less_than": f"a number less than {error.get('ctx', {}).get('lt')}",
        "too_short": "at least one entry",
        "string_too_short": "a text that is not empty",
        "literal_error": str(error.get("ctx", {}).get("expected")).replace("'", '"'),
    }.get(reason)
    if expected is None:
        return f"{path}: {error['msg']}, found {_described(found)}"
    return f"{path}: expected {expected}, found {_described(found)}"


def _path(location: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "config"


def _model_at(kind: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    below: dict[str | int, type[BaseModel]] = {
        "sampling": SamplingWeights,
        "models": ExperimentModelSpec,
        "model": ModelSpec,
        "early_stopping": EarlyStopping,
        "compute": ComputeSpec,
        "tolerations": Toleration,
    }
    return next((below[part] for part in reversed(location) if part in below), kind)


def _is_model(location: Sequence[str | int]) -> bool:
    return location == ("model",) or (len(location) > 1 and location[-2] in ("models", "tolerations"))


def _described(value: Any) -> str:
    kind = {
        bool: "true or false",
        str: "string",
        int: "integer",
        float: "number",
        list: "list",
        dict: "object",
    }
    text = json.dumps(value, default=str)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({kind.get(type(value), 'null')})"
