"""Parts of a model's card."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Part(BaseModel):
    """Base of a card and its parts: what is unknown is an error, and nothing is changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Normalisation(Part):
    """From reflectance to what the network reads.

    value = (f(reflectance) - mean) / std, with f either the identity or ln(1 + gain x reflectance).
    With ``clip``, reflectance is cut off at these two values first; with ``bounds``, the value at
    these at last. Of radar it is backscatter in decibels, of pictures brightness. With
    ``inside``, the network does all of this by itself: it reads reflectance, and NaN where there is
    no data.
    """

    inside: bool = False
    function: Literal["identity", "log1p"] = "identity"
    gain: float = 1.0
    clip: tuple[float, float] | None = None
    bounds: tuple[float, float] | None = None
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class NetworkConfig(Part):
    """Which network to build: names of the registries in ``mmearth.models``.

    The encoder is empty of networks that came from elsewhere, whole.
    """

    decoder: str
    encoder: str
    options: dict[str, Any] = Field(default_factory=dict)
    multiply_adds_per_pixel: float = Field(gt=0)

    @property
    def title(self) -> str:
        """What it is, in words."""
        base = self.options.get("base", {})  # of a head, what it is built on
        parts = (self.decoder, base.get("decoder"), base.get("encoder"), self.encoder)
        return " on ".join(part for part in parts if part)


class ClassRow(Part):
    """A class of the network's output, in order."""

    value: int = Field(ge=1, le=250)
    name: str
    title: str
    color: str = Field(pattern="^#[0-9a-f]{6}$")


class Product(Part):
    """Something to map with the network's probabilities.

    With ``members`` empty, the likeliest class, or ``fallback``, if it is named, where even that
    one's probability is below ``threshold``. Otherwise a binary map: class 1 where the summed
    probability of the members reaches ``threshold``, else class 2.
    """

    id: str
    title: str
    members: tuple[str, ...] = ()
    fallback: str | None = None
    threshold: float = Field(0.5, gt=0, lt=1)
    classes: tuple[ClassRow, ...]


class ContinuousValue(Part):
    """What a regression predicts of each pixel.

    value = low + (high - low) x sigmoid(network output / temperature): it never leaves its range.

    Attributes:
        name: in files.
        title: in words, as within a sentence.
        unit: as it is written behind a number.
        range: lowest and highest value, in that unit.
    """

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    unit: str
    range: tuple[float, float]

    @model_validator(mode="after")
    def _ascending(self) -> ContinuousValue:
        low, high = self.range
        if low >= high:
            raise ValueError(f"the range of {self.name} must ascend, found {low:g} to {high:g}")
        return self


class Accuracy(Part):
    """A measured figure and what it was measured on."""

    name: str
    value: float
    data: str
