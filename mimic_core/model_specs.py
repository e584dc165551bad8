"""Specs of models: what an experiment says of each of the models that it trains."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mimic_core.documents import Seed, Spec


class EarlyStopping(Spec):
    """When training ends before its last epoch."""

    patience: Annotated[int, Field(ge=1)] = Field(
        description="Epochs in a row without a lower val_loss after which training ends.", examples=[5]
    )


class ModelSpec(Spec):
    """One model: a network, or without layers the conditional logit, which is estimated to its optimum."""

    layers: tuple[str, ...] = Field(
        description="Names of layers, from the features to the utility; [] is linear.", examples=[["D32", "D16"]]
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(100, description="Decisions per training step.", examples=[256])
    epochs: Annotated[int, Field(ge=1)] = Field(10, description="Passes over the training decisions.", examples=[50])
    optimizer: str = Field("Adam", description="Name of an optimizer in keras.optimizers.", examples=["AdamW"])
    optimizer_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Its arguments; its learning_rate may be a schedule of keras.optimizers.schedules, as "
        '{"class_name": NAME, "config": ITS ARGUMENTS}.',
        examples=[{"learning_rate": 0.002}],
    )
    seed: Seed = Field(0, description="Seed of everything random in this model.", examples=[1])
    validation: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Share of training individuals, by a seeded hash, that chooses the epoch instead of the test split; "
        "a linear model is estimated without them.",
        examples=[0.1],
    )
    early_stopping: EarlyStopping | None = Field(
        None,
        description="Of a network only: training ends once val_loss, the loss of the decisions that choose the epoch, has "
        "not become lower for `patience` epochs; `epochs` stays the most.",
        examples=[{"patience": 5}],
    )
    l2: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None,
        description="Of a linear model only: lambda of the ridge penalty lambda / 2 * (sum of squared coefficients) that is "
        "added to the mean negative log-likelihood, on the columns as given. Without standard errors.",
        examples=[0.0001],
    )

    @model_validator(mode="after")
    def _penalty_fits(self) -> Self:
        if self.l2 is not None and self.layers:
            raise ValueError(
                f"l2: {self.l2:g} is for a linear model (layers: []); "
                "give a kernel_regularizer to the layers of the layers file instead"
            )
        return self

    @model_validator(mode="after")
    def _stopping_fits(self) -> Self:
        if self.early_stopping is not None and self.linear:
            raise ValueError(
                "early_stopping: a linear model (layers: []) is estimated to its optimum and never stopped early; remove it"
            )
        return self

    @property
    def patience(self) -> int | None:
        """Epochs without a lower val_loss after which training ends; None where it does not end early."""
        return self.early_stopping.patience if self.early_stopping else None

    @property
    def linear(self) -> bool:
        """Whether this is the conditional logit."""
        return not self.layers


class ExperimentModelSpec(ModelSpec):
    """A model of an experiment, or one for each seed; without layers a conditional logit, estimated to its optimum."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = Field(
        None,
        description='Instead of "seed": one run for each of these seeds, as if the model were written once with each.',
        examples=[[1, 2, 3]],
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if self.seeds is not None and "seed" in self.model_fields_set:
            raise ValueError('seeds: "seed" is given too; expected one of the two, remove the other')
        seeds = self.seeds or ()
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                raise ValueError(f"seeds[{index}]: {seed} stands more than once; name each seed once")
        return self

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """One model for each seed; without seeds, the model."""
        document = self.document
        seeds = document.pop("seeds", None)
        each = [document] if seeds is None else [{**document, "seed": seed} for seed in seeds]
        return tuple(ModelSpec.model_validate(one) for one in each)
