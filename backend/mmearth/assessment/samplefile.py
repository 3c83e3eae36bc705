"""The GeoPackage of a sample: points to be interpreted, and the strata that they were drawn from.

The strata stand in the metadata of the layer, so that they stay with the points, and in a table for
people. Who interprets the points should not know what the map says, so forms hide ``stratum``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError
from pyproj import CRS

from mmearth.api import Stratum
from mmearth.assessment.draw import Drawn
from mmearth.errors import InputError, MissingCrsError, OutputError, counted
from mmearth.files import explained
from mmearth.raster.grid import Grid
from mmearth.training.labels import class_text, reprojected

LAYER, TABLE = "sample", "strata"
REFERENCE = "reference"  # the field that is filled in
AREA = "area_ha"  # the field that says how much ground a pixel of the sample had
STRATA = "MMEARTH_STRATA"  # in the layer's metadata: rows of the table, as JSON

_STRATA: TypeAdapter[list[Stratum]] = TypeAdapter(list[Stratum])


@dataclass(frozen=True)
class Interpreted:
    """A sample as it was read.

    Attributes:
        strata: of the design, in order.
        stratum: (n,) int64, number of each point's stratum, from 0; -1 if it has none.
        xs: (n,) float64, map coordinates in the grid's system.
        ys: likewise.
        square_metres: (n,) float64, ground of the pixel that was drawn, NaN if it is not known.
        values: class that each was interpreted as, None if it was not.
        numbers: what messages call each point.
    """

    strata: list[Stratum]
    stratum: NDArray[np.int64]
    xs: NDArray[np.float64]
    ys: NDArray[np.float64]
    square_metres: NDArray[np.float64]
    values: list[str | None]
    numbers: list[str]


def write_sample(
    path: Path,
    grid: Grid,
    drawn: Drawn,
    strata: Sequence[Stratum],
    facts: Mapping[str, str],
) -> None:
    """Write points in the middle of pixels, and the table of strata.

    Args:
        path: of the new GeoPackage.
        grid: of the raster.
        drawn: pixels, in the order of the identifiers, which count from 1.
        strata: in order.
        facts: further metadata, how the sample was drawn.

    Raises:
        DiskFullError: if the disk is full.
        OutputError: if it cannot be written for another reason.
    """
    rows, cols = np.divmod(drawn.pixels, grid.width)
    xs = grid.transform.c + grid.transform.a * (cols + 0.5)
    ys = grid.transform.f + grid.transform.e * (rows + 0.5)
    values = np.array([row.value for row in strata], np.int32)
    titles = np.array([row.title for row in strata], object)
    count = drawn.pixels.size
    nothing = np.full(count, None, object)
    columns: dict[str, NDArray[Any]] = {
        "id": np.arange(1, count + 1, dtype=np.int32),
        "stratum": values[drawn.owners],
        "stratum_title": titles[drawn.owners],
        AREA: drawn.square_metres / 10_000,
        REFERENCE: np.zeros(count, np.int32),
        "confidence": nothing,
        "note": nothing,
    }
    table: dict[str, NDArray[Any]] = {
        "value": values,
        "title": titles,
        "pixels": np.array([row.pixels for row in strata], np.int64),
        "area_ha": np.array([row.hectares for row in strata]),
        "weight": np.array([row.weight for row in strata]),
        "points": np.array([row.points for row in strata], np.int32),
    }
    described = json.dumps([row.model_dump(mode="json") for row in strata], ensure_ascii=False)
    with explained(path):
        try:
            pyogrio.raw.write(
                path,
                shapely.to_wkb(shapely.points(xs, ys)),
                list(columns.values()),
                list(columns),
                [np.ones(count, bool) if name == REFERENCE else None for name in columns],
                layer=LAYER,
                driver="GPKG",
                geometry_type="Point",
                crs=grid.info().crs,
                layer_metadata={**facts, STRATA: described},
                # Newer versions of the format make the GDAL of older QGIS warn at each opening.
                dataset_options={"VERSION": "1.2"},
            )
            pyogrio.raw.write(
                path, None, list(table.values()), list(table), layer=TABLE, driver="GPKG",
                append=True,
            )  # fmt: skip
        except (DataSourceError, DataLayerError, FeatureError) as error:
            raise OSError(str(error)) from error  # as GDAL's other errors of writing


def find_sample(path: str, layer: str | None) -> tuple[str, list[Stratum]] | None:
    """Return layer and strata of a file that holds a sample; None if it holds none.

    Raises:
        InputError: if the strata are damaged.
    """
    try:
        layers = [layer] if layer else [str(row[0]) for row in pyogrio.list_layers(path)]
        found = {one: pyogrio.read_info(path, layer=one)["layer_metadata"] for one in layers}
    except (DataSourceError, DataLayerError, OSError):
        return None  # whoever reads it as something else will say why
    for one, metadata in found.items():
        if text := (metadata or {}).get(STRATA):
            try:
                return one, _STRATA.validate_json(text)
            except ValidationError as error:
                raise InputError(
                    f"The strata in {Path(path).name} are damaged.",
                    "Take the file as it was drawn, or name another layer.",
                ) from error
    return None


def keep_interpreted(path: Path) -> None:
    """Refuse to replace a sample that somebody has begun to interpret.

    Raises:
        OutputError: if the file holds one.
    """
    found = find_sample(str(path), None) if path.exists() else None
    if not found or REFERENCE not in pyogrio.read_info(path, layer=found[0])["fields"]:
        return
    values = pyogrio.raw.read(path, layer=found[0], columns=[REFERENCE], read_geometry=False)[3][0]
    if done := sum(class_text(value) is not None for value in values):
        raise OutputError(
            f"{path} holds a sample of which {counted(done, 'point')} "
            f"{'is' if done == 1 else 'are'} interpreted.",
            "Choose another name, or delete it if it is no longer needed.",
        )


def read_sample(
    path: str, layer: str, field: str, strata: list[Stratum], grid: Grid
) -> Interpreted:
    """Read the points of a sample.

    Raises:
        InputError: if they cannot be read, or lack a field.
        MissingCrsError: if they do not say where they are.
    """
    name = Path(path).name
    fields = list(pyogrio.read_info(path, layer=layer)["fields"])
    if missing := [one for one in ("stratum", AREA, field) if one not in fields]:
        raise InputError(
            f"{name} has no field {missing[0]!r}; it has {', '.join(fields) or 'none'}.",
            "Take the sample as it was drawn; only fields may be added.",
        )
    wanted = [one for one in ("id", "stratum", AREA, field) if one in fields]
    try:
        meta, fids, geometry, data = pyogrio.raw.read(
            path, layer=layer, columns=wanted, return_fids=True
        )
    except (DataSourceError, DataLayerError, FieldError, OSError) as error:
        raise InputError(
            f"The sample {name} cannot be read: {error}.", "Choose a vector layer that opens."
        ) from error
    if not meta["crs"]:
        raise MissingCrsError(
            f"{name} does not say where it is: it has no coordinate system.",
            "Assign one in the layer's properties.",
        )
    columns = dict(zip(meta["fields"], data, strict=True))
    points = reprojected(shapely.from_wkb(geometry), CRS(meta["crs"]), grid)
    numbers = {row.value: number for number, row in enumerate(strata)}
    codes = [class_text(value) for value in columns["stratum"]]
    known = [numbers.get(int(code), -1) if code else -1 for code in codes]
    names = columns.get("id", fids)
    return Interpreted(
        strata,
        np.array(known, np.int64),
        shapely.get_x(points),
        shapely.get_y(points),
        columns[AREA].astype(np.float64) * 10_000,
        [class_text(value) for value in columns[field]],
        [class_text(value) or str(fid) for value, fid in zip(names, fids, strict=True)],
    )
