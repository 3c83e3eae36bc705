"""Tell how alike each pixel is to chosen places, by the features of an encoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmearth import __version__
from mmearth.api import Plan, Problem, SimilarityOutputs, SimilarityResult, SimilaritySpec
from mmearth.errors import InputError, MMEarthError
from mmearth.files import check_space
from mmearth.jobs import mapping
from mmearth.jobs.context import JobContext
from mmearth.jobs.work import Work
from mmearth.raster import write
from mmearth.raster.features import BLOCK_BYTES, FeatureRows, feature_grid, read_features
from mmearth.raster.grid import Grid
from mmearth.raster.places import Places, read_places
from mmearth.raster.source import open_raster
from mmearth.settings import Settings

REFERENCE_SHARE = 0.3  # of the progress bar
COMPARED_SHARE = 0.95
COMPARED_AT_ONCE = 256  # places
PIXELS_AT_ONCE = 65_536


@dataclass(frozen=True)
class References:
    """What pixels are compared with.

    Attributes:
        vectors: (P, C) float32, of length 1: the mean direction of the features of each place.
        pixels: number of pixels that they are made of.
        unusable: places outside the features or without data.
    """

    vectors: NDArray[np.float32]
    pixels: int
    unusable: int


def plan(spec: SimilaritySpec, settings: Settings) -> Plan:
    """Say what a comparison would do. What stands in its way is collected, not raised."""
    result = Plan()
    try:
        mapping.targets(spec.outputs)
        grid, features = feature_grid(spec.features)
        places = read_places(spec.references, spec.layer, grid)
        if not places.pixels.size:
            raise _no_place()
    except MMEarthError as error:
        result.errors.append(Problem.of(error))
        return result
    result.grid = grid.info()
    result.memory_bytes = 4 * BLOCK_BYTES + 8 * places.count * features
    return result


def run(spec: SimilaritySpec, context: JobContext) -> SimilarityResult:
    """Compare each pixel with the places, and write how alike it is to the most similar one.

    A place is the mean of the features of its pixels, each scaled to length 1; the result is the
    largest cosine between a pixel's features and those of a place.

    Raises:
        MMEarthError: whatever stands in the way; no result is then left half-written.
    """
    context.report(0.0, "Reading the places", None)
    targets = mapping.targets(spec.outputs)
    mapping.keep_inputs(targets, [Path(spec.features), Path(spec.references)])
    grid, _ = feature_grid(spec.features)
    files = mapping.files_of([spec.features])
    mapping.keep_inputs(targets, files)
    places = read_places(spec.references, spec.layer, grid)
    layer = write.Layer("values", ("similarity",), _provenance(spec))
    bytes_needed = grid.width * grid.height * layer.pixel_bytes
    write.check_writable(list(targets.values()), bytes_needed)
    references = _references(spec, grid, places, context)
    vectors = hashlib.sha256(references.vectors.tobytes()).hexdigest()
    name = mapping.digest(__version__, spec.kind, mapping.stamps(files), vectors)
    with Work(context.settings.work_folder / name, targets) as work:
        check_space(work.folder, bytes_needed)
        if not work.rows_done:
            write.create_working(work.path("similarity"), grid, layer)
        _compare(spec, grid, references.vectors, work, context)
        context.report(COMPARED_SHARE, f"Writing {targets['similarity'].name}", None)
        write.publish(work.path("similarity"), work.staging.path("similarity"), layer)
        context.check_cancelled()
        work.staging.publish()
        work.remove()
    return SimilarityResult(
        outputs=SimilarityOutputs(similarity=str(targets["similarity"])),
        references=len(references.vectors),
        reference_pixels=references.pixels,
        grid=grid.info(),
        warnings=_warnings(references),
        seconds=context.elapsed(),
    )


def _provenance(spec: SimilaritySpec) -> dict[str, str]:
    """Return tags that say how a result came to be; those of the features tell of the model."""
    with open_raster(spec.features) as dataset:
        known = {name: text for name, text in dataset.tags().items() if name.startswith("MMEARTH_")}
    return {
        **known,
        "MMEARTH_VERSION": __version__,
        "MMEARTH_FEATURES": spec.features,
        "MMEARTH_REFERENCES": " ".join(filter(None, (spec.references, spec.layer))),
    }


def _references(
    spec: SimilaritySpec, grid: Grid, places: Places, context: JobContext
) -> References:
    """Average the features of each place.

    Raises:
        InputError: if no place is on data.
    """
    order = np.argsort(places.pixels, kind="stable")
    pixels, owners = places.pixels[order], places.owners[order]
    sums: NDArray[np.float64] | None = None
    counts = np.zeros(places.count, np.int64)
    for rows in read_features(spec.features):
        context.check_cancelled()
        context.report(REFERENCE_SHARE * rows.start / grid.height, "Reading the places", None)
        if sums is None:
            sums = np.zeros((places.count, len(rows.values)))
        first = rows.start * grid.width
        low, high = np.searchsorted(pixels, (first, first + rows.valid.size))
        held, mine = pixels[low:high] - first, owners[low:high]
        known = rows.valid.ravel()[held]
        held, mine = held[known], mine[known]
        np.add.at(sums, mine, _of_length_one(rows.values.reshape(len(rows.values), -1)[:, held]).T)
        np.add.at(counts, mine, 1)
    usable = counts > 0
    if sums is None or not usable.any():
        raise _no_place()
    vectors = _of_length_one(sums[usable].T.astype(np.float32)).T
    return References(vectors, int(counts.sum()), int((~usable).sum()))


def _compare(
    spec: SimilaritySpec,
    grid: Grid,
    vectors: NDArray[np.float32],
    work: Work,
    context: JobContext,
) -> None:
    """Compute the rows that are not yet done, and write them to the working raster."""
    for rows in read_features(spec.features, work.rows_done):
        share = rows.start / grid.height
        progress = REFERENCE_SHARE + (COMPARED_SHARE - REFERENCE_SHARE) * share
        context.report(progress, f"Comparing: row {rows.start:,} of {grid.height:,}", None)
        write.write_rows(work.path("similarity"), rows.start, _best(rows, vectors, context)[None])
        work.mark(rows.start + rows.valid.shape[0])


def _best(
    rows: FeatureRows, vectors: NDArray[np.float32], context: JobContext
) -> NDArray[np.float32]:
    """Return the largest cosine of each pixel, NaN without data. (n, W) float32."""
    values = rows.values[:, rows.valid]
    best = np.full(values.shape[1], -1.0, np.float32)
    for start in range(0, values.shape[1], PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        units = _of_length_one(values[:, part])
        for first in range(0, len(vectors), COMPARED_AT_ONCE):
            context.check_cancelled()
            cosines = vectors[first : first + COMPARED_AT_ONCE] @ units
            np.maximum(best[part], cosines.max(axis=0), out=best[part])
    result = np.full(rows.valid.shape, np.nan, np.float32)
    result[rows.valid] = best.clip(-1, 1)
    return result


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale columns to length 1; a column of zeros stays so. (C, n) float32 to the same."""
    lengths = np.linalg.norm(vectors, axis=0)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def _no_place() -> InputError:
    return InputError(
        "None of the places lies on features with data.",
        "Choose points or polygons inside the raster of features.",
    )


def _warnings(references: References) -> list[Problem]:
    if not references.unusable:
        return []
    total = references.unusable + len(references.vectors)
    return [
        Problem(
            code="references",
            message=f"{references.unusable:,} of {total:,} places lie outside the features, or "
            "where they have no data; these are left out.",
            advice="Check the places, or compute features of a larger area.",
        )
    ]
