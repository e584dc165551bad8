"""Specs of models: what an experiment says of each of the models that it trains."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mimic_core.documents import Seed, Spec


class ModelSpec(Spec):
    """One model of an experiment. Without layers it is the conditional logit, which is estimated to its optimum."""

    layers: tuple[str, ...] = Field(description="Names of layers, from the features to the utility; [] is linear.")
    batch_size: Annotated[int, Field(ge=1)] = Field(100, description="Decisions per training step.")
    epochs: Annotated[int, Field(ge=1)] = Field(10, description="Passes over the training decisions.")
    optimizer: str = Field("Adam", description="Name of an optimizer in keras.optimizers.")
    optimizer_kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments.")
    seed: Seed = Field(0, description="Seed of everything random in this model.")
    validation: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Share of training individuals, by a seeded hash, that chooses the epoch instead of the test split; "
        "a linear model is estimated without them.",
    )
    l2: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None,
        description="Of a linear model only: lambda of the ridge penalty lambda / 2 * (sum of squared coefficients) that is "
        "added to the mean negative log-likelihood, on the columns as given. Without standard errors.",
    )

    @model_validator(mode="after")
    def _penalty_fits(self) -> Self:
        if self.l2 is not None and self.layers:
            raise ValueError(
                f"l2: {self.l2:g} is for a linear model (layers: []); "
                "give a kernel_regularizer to the layers of the layers file instead"
            )
        return self

    @property
    def linear(self) -> bool:
        """Whether this is the conditional logit."""
        return not self.layers
