"""What a raster file says of itself: bands, names, scale, no-data."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from mmearth.api import RasterInput, SourceBand
from mmearth.errors import InputError, MissingCrsError, RasterReadError
from mmearth.raster import safe
from mmearth.raster.grid import Grid
from mmearth.raster.spectral import Spectrum, read_spectra

OPENING = threading.Lock()  # which warnings are told is a matter of the process, not of a thread
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

logging.getLogger("rasterio").setLevel(logging.ERROR)  # GDAL's own words reach no user


@dataclass(frozen=True)
class BandSource:
    """One band of one input, ready to be opened.

    Attributes:
        input: position of the input in the request, from 0.
        index: position of the band within that input, from 1.
        dataset: GDAL dataset name to open.
        band: band of the dataset, from 1.
        title: what the user reads.
        hints: texts that may hold the band's name, the most telling first.
        wavelength_nm: central wavelength, if the file states one.
        width_nm: full width at half maximum, if the file states one.
        dtype: numpy name of the stored type.
        grid: pixel grid of the dataset.
        nodata: stored value of empty pixels (NaN possible), if the file states one. Floating-point
            numbers that are not finite are empty whether or not it does.
        masked: true if the dataset holds a mask or alpha band.
        scale: quantity = stored value x scale + offset, if the file or product states it.
        offset: see ``scale``.
        position: place among the spectral bands of the input, from 1.
        count: number of spectral bands of the input.
    """

    input: int
    index: int
    dataset: str
    band: int
    title: str
    hints: tuple[str, ...]
    wavelength_nm: float | None
    width_nm: float | None
    dtype: str
    grid: Grid
    nodata: float | None
    masked: bool
    scale: float | None
    offset: float
    position: int
    count: int

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from all other sources: input and band."""
        return self.input, self.index

    def reference(self) -> SourceBand:
        """Describe the band for the API."""
        return SourceBand(
            input=self.input,
            index=self.index,
            title=self.title,
            wavelength_nm=self.wavelength_nm,
            width_nm=self.width_nm,
        )


@contextlib.contextmanager
def open_raster(name: str) -> Iterator[DatasetReader]:
    """Open a GDAL dataset for reading.

    Raises:
        RasterReadError: if GDAL cannot open it.
    """
    with OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(name)
        except RasterioError as error:
            raise RasterReadError(_why_not(name), f"GDAL says: {error}") from error
    with dataset:
        yield dataset


def read_mask(
    dataset: DatasetReader, band: int | Sequence[int], **options: Any
) -> NDArray[np.bool_]:
    """Read where a band is valid by its no-data value or mask, and by an alpha band.

    GDAL's own mask heeds only one of these, and no alpha of floating-point numbers.

    Args:
        dataset: an open dataset.
        band: from 1; or several.
        options: window, out_shape and resampling, as for reading.

    Returns:
        (h, w) bool; of several bands (C, h, w).

    Raises:
        RasterioError: if the file is damaged.
    """
    mask: NDArray[np.bool_] = dataset.read_masks(band, **options) > 0
    alpha = _alpha(dataset)
    if alpha is not None:
        mask &= dataset.read(alpha, **options) > 0
    return mask


def _alpha(dataset: DatasetReader) -> int | None:
    """Return the band that holds opacity, from 1, if any."""
    roles = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return next((index for index, role in roles if role == ColorInterp.alpha), None)


def list_bands(inputs: list[RasterInput], *, anywhere: bool = False) -> list[BandSource]:
    """Describe every spectral band of every input.

    Args:
        inputs: to look at.
        anywhere: take those without a place on the map too; the system of their grid is empty.

    Raises:
        InputError: if there is no input.
        RasterReadError: if an input cannot be opened.
        MissingCrsError: if an input has no place on the map, and needs one.
    """
    if not inputs:
        raise InputError("No raster is chosen.", "Tick at least one raster layer.")
    return [
        band for number, item in enumerate(inputs) for band in _bands_of(number, item, anywhere)
    ]


def _bands_of(number: int, item: RasterInput, anywhere: bool) -> list[BandSource]:
    product = safe.find_product(item.path)
    if product and safe.is_container(item.path):
        bands: list[BandSource] = []
        for image in product.images():
            with open_raster(str(image.path)) as dataset:
                place, spectrum = len(bands) + 1, read_spectra(dataset)[0]
                bands.append(
                    _describe(number, place, dataset, 1, spectrum, item, product, image.band)
                )
        return _numbered(bands)
    with open_raster(item.path) as dataset:
        if dataset.count == 0:
            raise RasterReadError(
                f"{_name(item)} is a container of several images.",
                "Choose one of its images; QGIS lists them when the file is added as a layer.",
            )
        spectral = [
            index
            for index in dataset.indexes
            if dataset.colorinterp[index - 1] != ColorInterp.alpha
        ]
        spectra = read_spectra(dataset)
        described = [
            _describe(number, i, dataset, i, spectra[i - 1], item, product, None, anywhere)
            for i in spectral
        ]
        return _numbered(described)


def _numbered(bands: list[BandSource]) -> list[BandSource]:
    return [
        replace(band, position=position, count=len(bands))
        for position, band in enumerate(bands, start=1)
    ]


def _describe(
    number: int,
    index: int,
    dataset: DatasetReader,
    band: int,
    spectrum: Spectrum,
    item: RasterInput,
    product: safe.SafeProduct | None,
    product_band: str | None,
    anywhere: bool = False,
) -> BandSource:
    description = dataset.descriptions[band - 1] or ""
    stem = Path(dataset.name).stem
    single = dataset.count == 1
    # File and layer names speak of a band only where the file holds a single one.
    hints = [product_band, *spectrum.names, *([stem, item.label] if single else [])]
    role = dataset.colorinterp[band - 1]
    if dataset.dtypes[band - 1] == "uint8" and role in COLOURS:
        hints.append(role.name)  # all that pictures say of their bands
    scale, offset, nodata = _stated_values(dataset, band)
    if product and (known := product_band or product.band_in(description or stem)):
        # What the file states of itself wins.
        if scale is None:
            scale, offset = product.radiometry(known)
        if nodata is None:
            nodata = product.nodata
    place = f"band {band}"
    if spectrum.wavelength_nm:
        place += f" ({spectrum.wavelength_nm:.0f} nm)"
    name = product_band or description or (stem if single else place)
    source_name = item.label or Path(item.path).name
    return BandSource(
        input=number,
        index=index,
        dataset=dataset.name,
        band=band,
        title=name if name == source_name else f"{source_name}: {name}",
        hints=tuple(hint for hint in hints if hint),
        wavelength_nm=spectrum.wavelength_nm,
        width_nm=spectrum.width_nm,
        dtype=dataset.dtypes[band - 1],
        grid=_grid(dataset, _name(item), anywhere),
        nodata=nodata,
        masked=_alpha(dataset) is not None
        or MaskFlags.per_dataset in dataset.mask_flag_enums[band - 1],
        scale=scale,
        offset=offset,
        position=1,
        count=1,
    )


def _stated_values(dataset: DatasetReader, band: int) -> tuple[float | None, float, float | None]:
    """Return scale, offset and no-data as the file states them; scale is None if it does not."""
    scale, offset = dataset.scales[band - 1], dataset.offsets[band - 1]
    stated = scale not in (0.0, 1.0) or offset != 0.0
    nodata = dataset.nodatavals[band - 1]
    return (scale if stated else None), (offset if stated else 0.0), nodata


def _grid(dataset: DatasetReader, title: str, anywhere: bool) -> Grid:
    if anywhere and (not dataset.crs or dataset.transform.is_identity):
        return Grid(CRS(), dataset.transform, dataset.width, dataset.height)
    return Grid.of_dataset(dataset, stated_crs(dataset, title))


def stated_crs(dataset: DatasetReader, title: str) -> CRS:
    """Return a dataset's coordinate reference system.

    Raises:
        MissingCrsError: if it has none, or no position in it.
    """
    if dataset.crs and not dataset.transform.is_identity:
        return dataset.crs
    lacking = "coordinate reference system" if not dataset.crs else "position (geotransform)"
    raise MissingCrsError(
        f"{title} has no {lacking}, so it has no place on the map.",
        "Assign one in the file itself (Raster > Projections > Assign Projection, or the "
        "Georeferencer) and try again.",
    )


def _name(item: RasterInput) -> str:
    return item.label or item.path


def _why_not(name: str) -> str:
    path = Path(name)
    if path.suffix and not path.exists() and ":" not in name[2:]:
        return f"The file {name} does not exist."
    return f"{name} cannot be opened as a raster; it may be damaged or of an unknown format."
