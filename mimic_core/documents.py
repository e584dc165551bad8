"""Documents: what every spec is, a frozen and strictly parsed config with one form from which ids and versions follow."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Spec(BaseModel):
    """A frozen, strictly parsed config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def document(self) -> dict[str, Any]:
        """What the user set, and nothing else, in the one form from which ids and versions are computed."""
        document: dict[str, Any] = normalise(self.model_dump(mode="json", exclude_unset=True))
        return document


def normalise(value: Any) -> Any:
    """Return a document without None-valued keys and with integral numbers as integers.

    >>> normalise({"epochs": 10.0, "seed": None, "rate": 0.5})
    {'epochs': 10, 'rate': 0.5}
    """
    if isinstance(value, dict):
        return {name: normalise(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
