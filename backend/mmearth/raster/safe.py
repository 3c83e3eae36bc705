"""Sentinel-2 products in ESA's SAFE format: image files and radiometry from their XML.

Reflectance = (DN + offset) / quantification, with both numbers from the product's own metadata
(``BOA_ADD_OFFSET`` for Level-2A, ``RADIO_ADD_OFFSET`` for Level-1C), and no offset where the
metadata has none: ESA, Sentinel-2 Products Specification Document, issue 14.9. Never from the date,
because reprocessed archives carry the offset on old scenes too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree.ElementTree import Element  # nosec B405 - the type; defusedxml parses

from defusedxml import ElementTree

from mmearth.errors import RasterReadError

# Order of band_id / bandId in the metadata.
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

_METADATA = re.compile(r"^MTD_MSIL(1C|2A)\.xml$")
_SUBDATASET = re.compile(r"^SENTINEL2_L(?:1C|2A)(?:_TILE)?:(.+\.xml)(?::[^:]*)*$")
_IMAGE = re.compile(r"_(B\d[\dA])(?:_(\d0)m)?$")
_CLASSIFICATION = re.compile(r"_SCL(?:_(\d0)m)?$")
_BAND = re.compile(r"(?:^|_)(B\d{1,2}A?)(?=[_,\s]|$)")


@dataclass(frozen=True)
class SafeImage:
    """One band of a product in its best resolution."""

    band: str
    path: Path


@dataclass(frozen=True)
class SafeProduct:
    """What the metadata of a product says.

    Attributes:
        folder: the ``.SAFE`` folder.
        quantification: stored number of reflectance 1.
        offsets: added to stored numbers before division, by band.
        nodata: stored value of empty pixels.
        files: image files relative to the folder, without suffix.
    """

    folder: Path
    quantification: float
    offsets: dict[str, float]
    nodata: float
    files: tuple[str, ...]

    def radiometry(self, band: str) -> tuple[float, float]:
        """Return scale and offset of a band: reflectance = DN x scale + offset."""
        return 1.0 / self.quantification, self.offsets.get(band, 0.0) / self.quantification

    def images(self) -> list[SafeImage]:
        """Return the finest image of each band, in the order of the bands.

        Raises:
            RasterReadError: if the product holds no image files, or those of several tiles.
        """
        best: dict[str, tuple[int, Path]] = {}
        tiles: set[str] = set()
        for name in self.files:
            match = _IMAGE.search(name)
            path = self._existing(name)
            if not match or path is None:
                continue
            tiles.add("/".join(Path(name).parts[:2]))  # GRANULE/<tile>
            resolution = int(match[2] or 0)
            if match[1] not in best or resolution < best[match[1]][0]:
                best[match[1]] = (resolution, path)
        if not best:
            raise RasterReadError(
                f"{self.folder.name} holds none of the image files that its metadata lists.",
                "The download or unpacking is incomplete: get the product again.",
            )
        if len(tiles) > 1:
            raise RasterReadError(
                f"{self.folder.name} holds {len(tiles)} tiles, where one is expected: "
                f"{', '.join(sorted(tiles))}.",
                "Add the image files of one of them instead (in its folder IMG_DATA).",
            )
        return [SafeImage(band, best[band][1]) for band in BANDS if band in best]

    def scene_classification(self) -> Path | None:
        """Return the finest image of the scene classification, which Level-2A has; None if none."""
        found = [
            (int(match[1] or 0), path)
            for name in self.files
            if (match := _CLASSIFICATION.search(name)) and (path := self._existing(name))
        ]
        return min(found)[1] if found else None

    def holds(self, path: Path) -> bool:
        """Tell whether a file is one of the images that the metadata lists."""
        image = path.resolve().with_suffix("")
        folder = self.folder.resolve()
        return image.is_relative_to(folder) and image.relative_to(folder).as_posix() in self.files

    def band_in(self, text: str) -> str | None:
        """Return the band named in a file name or GDAL description, zero-padded."""
        match = _BAND.search(text)
        if not match:
            return None
        name = match[1]
        return name if name == "B8A" else f"B{int(name[1:]):02d}"

    def _existing(self, name: str) -> Path | None:
        for suffix in (".jp2", ".tif"):
            path = self.folder / (name + suffix)
            if path.exists():
                return path
        return None


def is_container(name: str) -> bool:
    """Tell whether a name stands for a whole product rather than for one of its images."""
    path = Path(name)
    return path.is_dir() or bool(_METADATA.match(path.name))


def find_product(name: str) -> SafeProduct | None:
    """Return the product that a folder, image file or GDAL dataset name belongs to, if any.

    A raster that lies in a product's folder without being one of its images does not belong to it.

    Raises:
        RasterReadError: if there is a product but its metadata cannot be read.
    """
    subdataset = _SUBDATASET.match(name)
    path = Path(subdataset[1] if subdataset else name)
    product = _product_above(path)
    if product and (subdataset or is_container(name) or product.holds(path)):
        return product
    return None


def _product_above(path: Path) -> SafeProduct | None:
    if not path.exists():
        return None
    # An image lies at most four folders below the metadata: GRANULE/<tile>/IMG_DATA/R10m.
    for folder in [path, *path.parents[:5]]:
        if not folder.is_dir():
            continue
        metadata = [
            file for file in sorted(folder.glob("MTD_MSIL*.xml")) if _METADATA.match(file.name)
        ]
        if metadata:
            return _read(metadata[0], metadata[0].stat().st_mtime_ns)
        if folder.suffix == ".SAFE":
            raise RasterReadError(
                f"{folder.name} lacks its metadata file MTD_MSIL1C.xml or MTD_MSIL2A.xml.",
                "The download or unpacking is incomplete: get the product again.",
            )
    return None


@lru_cache(maxsize=32)
def _read(path: Path, _modified: int) -> SafeProduct:
    try:
        root: Element = ElementTree.parse(path).getroot()
        quantification = _first_number(root, "BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
        offsets = {
            BANDS[int(node.attrib["band_id"])]: float(node.text or "")
            for tag in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")
            for node in root.iter(tag)
        }
        nodata = _special_value(root, "NODATA")
    except (ElementTree.ParseError, OSError, ValueError, KeyError, IndexError) as error:
        raise RasterReadError(
            f"The metadata {path.name} of {path.parent.name} cannot be read: {error}.",
            "The download or unpacking is incomplete: get the product again.",
        ) from error
    return SafeProduct(
        folder=path.parent,
        quantification=quantification,
        offsets=offsets,
        nodata=nodata,
        files=tuple(node.text.strip() for node in root.iter("IMAGE_FILE") if node.text),
    )


def _first_number(root: Element, *tags: str) -> float:
    for tag in tags:
        for node in root.iter(tag):
            return float(node.text or "")
    raise ValueError(f"no {' or '.join(tags)}")


def _special_value(root: Element, name: str) -> float:
    for node in root.iter("Special_Values"):
        if node.findtext("SPECIAL_VALUE_TEXT") == name:
            return float(node.findtext("SPECIAL_VALUE_INDEX") or "0")
    return 0.0
