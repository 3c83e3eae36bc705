"""Sentinel-2 products in ESA's layout, made of test pixels.

Folder and file names and the elements of the metadata follow the Sentinel-2 Products Specification
Document, issue 14.9, for processing baselines 05.10 (with offsets) and 02.14 (without).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

TILE = "T32TNT"
TIME = "20230601T101559"
ORDER = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"]
RESOLUTIONS = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10,
    "B8A": 20, "B09": 60, "B10": 60, "B11": 20, "B12": 20,
}  # fmt: skip
SIDE_M = 1200  # ground covered


def write_product(
    folder: Path,
    level: Literal["1C", "2A"],
    *,
    offset: int | None,
    quantification: int = 10_000,
    values: dict[str, int] | None = None,
    classified: bool = False,
) -> Path:
    """Write a product whose bands are constant but for an empty first column.

    Args:
        folder: where to.
        level: of processing.
        offset: stated in the metadata for all bands; None states none.
        quantification: stated in the metadata.
        values: stored number of each band; 3000 if not named.
        classified: whether it holds a scene classification: 8 (cloud) but for an empty first 60 m.

    Returns:
        The ``.SAFE`` folder.
    """
    baseline = "N0510" if offset is not None else "N0214"
    safe = folder / f"S2A_MSIL{level}_{TIME}_{baseline}_R065_{TILE}_20230601T164203.SAFE"
    granule = safe / "GRANULE" / f"L{level}_{TILE}_A041491_{TIME}" / "IMG_DATA"
    names = []
    for band, native in RESOLUTIONS.items():
        if level == "2A" and band == "B10":
            continue
        # Level-2A repeats finer bands in coarser folders.
        sizes = [size for size in (10, 20, 60) if size >= native] if level == "2A" else [native]
        if band == "B08" and level == "2A":
            sizes = [10]
        for size in sizes:
            part = granule / f"R{size}m" if level == "2A" else granule
            suffix = f"_{size}m" if level == "2A" else ""
            path = part / f"{TILE}_{TIME}_{band}{suffix}"
            _write_image(path.with_suffix(".jp2"), size, (values or {}).get(band, 3000))
            names.append(path.relative_to(safe).as_posix())
    for size in (20, 60) if classified else ():
        path = granule / f"R{size}m" / f"{TILE}_{TIME}_SCL_{size}m"
        _write_image(path.with_suffix(".jp2"), size, 8, "uint8")
        names.append(path.relative_to(safe).as_posix())
    (safe / f"MTD_MSIL{level}.xml").write_text(
        _metadata(level, names, offset, quantification), "utf-8"
    )
    return safe


def _write_image(path: Path, size: int, value: int, dtype: str = "uint16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    side = SIDE_M // size
    pixels = np.full((1, side, side), value, dtype)
    pixels[:, :, : max(1, 60 // size)] = 0
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", dtype=dtype, count=1, width=side, height=side,
        crs=CRS.from_epsg(32632), transform=from_origin(600_000, 5_400_000, size, size),
        QUALITY="100", REVERSIBLE="YES",
    ) as dataset:  # fmt: skip
        dataset.write(pixels)


def _metadata(level: str, names: list[str], offset: int | None, quantification: int) -> str:
    files = "\n".join(f"            <IMAGE_FILE>{name}</IMAGE_FILE>" for name in names)
    if level == "2A":
        value = f"""
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>
        <AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>
        <WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>"""
        tag, group = "BOA_ADD_OFFSET", "BOA_ADD_OFFSET_VALUES_LIST"
    else:
        value = f'\n      <QUANTIFICATION_VALUE unit="none">{quantification}</QUANTIFICATION_VALUE>'
        tag, group = "RADIO_ADD_OFFSET", "Radiometric_Offset_List"
    offsets = ""
    if offset is not None:
        rows = "\n".join(
            f'        <{tag} band_id="{n}">{offset}</{tag}>' for n in range(len(ORDER))
        )
        offsets = f"\n      <{group}>\n{rows}\n      </{group}>"
    root = f"Level-{level}_User_Product"
    space = f"https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:{root} xmlns:n1="{space}">
  <n1:General_Info>
    <Product_Info>
      <PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
      <Product_Organisation>
        <Granule_List>
          <Granule datastripIdentifier="S2A" granuleIdentifier="S2A" imageFormat="JPEG2000">
{files}
          </Granule>
        </Granule_List>
      </Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>{value}{offsets}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:{root}>
"""
