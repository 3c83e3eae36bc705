"""Jobs of every kind: what they would do, and where they stand."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated

from pydantic import Field

from mmearth.api.assess import (
    AssessResult,
    AssessSpec,
    SampleDesignResult,
    SampleDesignSpec,
)
from mmearth.api.base import Problem, Schema
from mmearth.api.disturbance import DisturbanceResult, DisturbanceSpec
from mmearth.api.embed import EmbedResult, EmbedSpec, SimilarityResult, SimilaritySpec
from mmearth.api.evaluate import EvaluateResult, EvaluateSpec
from mmearth.api.finetune import (
    FinetuneResult,
    FinetuneSpec,
    LabelCount,
    PreviewResult,
    PreviewSpec,
)
from mmearth.api.models import ExportResult, ExportSpec, InstallResult, InstallSpec
from mmearth.api.pair import PairResult, PairSpec
from mmearth.api.pretrain import PretrainResult, PretrainSpec
from mmearth.api.rasters import BandMatch, GridInfo, SourceBand
from mmearth.api.segment import SegmentResult, SegmentSpec
from mmearth.api.views import ViewsResult, ViewsSpec

# A new kind of job is one line in each; ``kind`` tells them apart.
JobSpec = Annotated[
    SegmentSpec
    | DisturbanceSpec
    | EmbedSpec
    | SimilaritySpec
    | FinetuneSpec
    | PreviewSpec
    | PretrainSpec
    | ViewsSpec
    | PairSpec
    | InstallSpec
    | ExportSpec
    | SampleDesignSpec
    | AssessSpec
    | EvaluateSpec,
    Field(discriminator="kind"),
]
JobResult = Annotated[
    SegmentResult
    | DisturbanceResult
    | EmbedResult
    | SimilarityResult
    | FinetuneResult
    | PreviewResult
    | PretrainResult
    | ViewsResult
    | PairResult
    | InstallResult
    | ExportResult
    | SampleDesignResult
    | AssessResult
    | EvaluateResult,
    Field(discriminator="kind"),
]


class Plan(Schema):
    """What a job would do: bands, grid, effort, and what stands in its way."""

    bands: list[BandMatch] = Field(default_factory=list)
    sources: list[SourceBand] = Field(default_factory=list, description="All bands of all inputs.")
    grid: GridInfo | None = None
    tiles: int = 0
    cells: list[str] = Field(
        default_factory=list, description="Of an evaluation: what is computed by itself, in words."
    )
    labels: list[LabelCount] = Field(
        default_factory=list, description="How much of each class is labelled, if labels are given."
    )
    seconds: float | None = Field(None, description="Estimated time.")
    seconds_measured: bool = Field(
        False, description="True if the estimate rests on an earlier run on this machine."
    )
    memory_bytes: int = Field(0, description="Estimated peak of the computing process.")
    warnings: list[Problem] = Field(default_factory=list)
    errors: list[Problem] = Field(default_factory=list)

    @property
    def ready(self) -> bool:
        """True if the job can run as it is."""
        return not self.errors


class JobState(str, Enum):
    """Where a job stands."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def over(self) -> bool:
        """True if the job will not change any more."""
        return self in (JobState.succeeded, JobState.failed, JobState.cancelled)


class Job(Schema):
    """A job and its present state."""

    id: str
    state: JobState
    spec: JobSpec
    progress: float = Field(0.0, ge=0, le=1)
    stage: str = Field("", description="What is being done, in words.")
    eta_seconds: float | None = None
    log: str = Field(
        "",
        description="File to which a pretraining writes a line of JSON for each stretch of steps; "
        "gone when it is over.",
    )
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    result: JobResult | None = None
    error: Problem | None = None


class JobList(Schema):
    """Jobs, newest first."""

    jobs: list[Job]
