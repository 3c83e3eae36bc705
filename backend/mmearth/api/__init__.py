"""The contract between the plugin, the command line and the backend.

Every request and answer of the HTTP interface is one of these models. ``backend/openapi.json`` is
made from them and committed; a test fails when the two differ. Pixels never travel: a job names
its rasters, and the backend opens them.
"""

from mmearth.api.base import ErrorBody, Problem, Request, Schema
from mmearth.api.embed import (
    EmbedOutputs,
    EmbedResult,
    EmbedSpec,
    SimilarityOutputs,
    SimilarityResult,
    SimilaritySpec,
)
from mmearth.api.finetune import (
    ClassScore,
    FinetuneOutputs,
    FinetuneResult,
    FinetuneSpec,
    LabelClass,
    LabelCount,
    LabelSource,
    PreviewOutputs,
    PreviewResult,
    PreviewSpec,
    Suggestion,
)
from mmearth.api.jobs import Job, JobList, JobResult, JobSpec, JobState, Plan
from mmearth.api.models import (
    ClassInfo,
    ExportResult,
    ExportSpec,
    InstallResult,
    InstallSpec,
    ModelInfo,
    ModelList,
    ProductInfo,
    PublishedInfo,
    PublishedList,
)
from mmearth.api.rasters import (
    BandChoice,
    BandMatch,
    Extent,
    GridInfo,
    MappingSpec,
    MatchState,
    Radiometry,
    RasterInput,
    SourceBand,
)
from mmearth.api.segment import ClassArea, SegmentOutputs, SegmentResult, SegmentSpec
from mmearth.api.service import API_VERSION, Health, ServiceInfo

__all__ = [
    "API_VERSION",
    "BandChoice",
    "BandMatch",
    "ClassArea",
    "ClassInfo",
    "ClassScore",
    "EmbedOutputs",
    "EmbedResult",
    "EmbedSpec",
    "ErrorBody",
    "ExportResult",
    "ExportSpec",
    "Extent",
    "FinetuneOutputs",
    "FinetuneResult",
    "FinetuneSpec",
    "GridInfo",
    "Health",
    "InstallResult",
    "InstallSpec",
    "Job",
    "JobList",
    "JobResult",
    "JobSpec",
    "JobState",
    "LabelClass",
    "LabelCount",
    "LabelSource",
    "MappingSpec",
    "MatchState",
    "ModelInfo",
    "ModelList",
    "Plan",
    "PreviewOutputs",
    "PreviewResult",
    "PreviewSpec",
    "Problem",
    "ProductInfo",
    "PublishedInfo",
    "PublishedList",
    "Radiometry",
    "RasterInput",
    "Request",
    "Schema",
    "SegmentOutputs",
    "SegmentResult",
    "SegmentSpec",
    "ServiceInfo",
    "SimilarityOutputs",
    "SimilarityResult",
    "SimilaritySpec",
    "SourceBand",
    "Suggestion",
]
