"""A recipe: several passes in a row, as the YAML file that `modelkit run` takes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Step(BaseModel):
    """One pass. Every further key is an option of that pass; `modelkit passes NAME` lists them."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str = Field(
        validation_alias="pass", serialization_alias="pass", description='"quantize", or with its algorithm "quantize.gptq"'
    )
    calib: str | None = Field(None, description="calibration data of this pass, instead of the recipe's")
    ignore: list[str] = Field(default_factory=list, description="layers to leave alone: GLOB or re:REGEX")
    only: list[str] = Field(default_factory=list, description="layers to change, and no others: GLOB or re:REGEX")


class Recipe(BaseModel):
    """Passes in the order they are run, and the data they use."""

    model_config = ConfigDict(extra="forbid")

    passes: list[Step] = Field(min_length=1)
    calib: str | None = Field(None, description="calibration data")
    data: str | None = Field(None, description="labelled data that the result is measured on")
    seed: int = 0
