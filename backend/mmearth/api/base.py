"""What all messages share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from mmearth.errors import MMEarthError


class Schema(BaseModel):
    """Base of all messages: unknown fields are an error, so typing mistakes are found."""

    model_config = ConfigDict(extra="forbid")


class Request(Schema):
    """Base of what is asked for: infinities and "not a number" are an error too."""

    # A cancelled job looks up between batches; one that is deep in a file is stopped by force after
    # so long.
    cancel_seconds: ClassVar[float] = 1.2

    model_config = ConfigDict(allow_inf_nan=False)


class Problem(Schema):
    """An error in words."""

    code: str
    message: str
    advice: str = ""

    @classmethod
    def of(cls, error: MMEarthError) -> Problem:
        """Return what an exception says."""
        return cls(code=error.code, message=error.message, advice=error.advice)


class ErrorBody(Schema):
    """Body of every answer that is not a success."""

    error: Problem
