"""From tiles to a data set in MMEarth's layout; see ``mmearth_layout``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mmearth.api import PairSpec
from mmearth.errors import EmptyAreaError
from mmearth.files import explained
from mmearth.pretraining.datasets.blocks import split_ground
from mmearth.pretraining.datasets.mmearth_layout import METADATA, PLACE
from mmearth.pretraining.datasets.running import Running
from mmearth.pretraining.pairing.images import Images
from mmearth.pretraining.pairing.partners import Partner
from mmearth.pretraining.pairing.places import Place, block_of
from mmearth.pretraining.pairing.strips import Strip, layout_of
from mmearth.raster.grid import crs_text
from mmearth.raster.ground import footprint
from mmearth.sensors import Sensor


@dataclass(frozen=True)
class Tile:
    """A tile that was kept."""

    strip: int
    rank: int
    image: int
    place: Place


@dataclass
class Archive:
    """What the files of a data set are made of.

    Attributes:
        spec: the request.
        images: its images.
        partners: all other modalities.
        sensor: of the images.
        strips: that were cut.
        folder: of their files.
    """

    spec: PairSpec
    images: Images
    partners: Sequence[Partner]
    sensor: Sensor
    strips: Sequence[Strip]
    folder: Path

    def __post_init__(self) -> None:
        self._layout = layout_of(self.sensor, self.images.bands)
        found, self.clipped = [], np.zeros(2, np.int64)
        for number, strip in enumerate(self.strips):
            with np.load(self.folder / strip.name) as parts:
                self.clipped += parts["clipped"]
                found += [
                    Tile(number, rank, strip.image, strip.places[kept])
                    for rank, kept in enumerate(parts["kept"].tolist())
                ]
        if not found:
            raise EmptyAreaError(
                f"No tile has data in {self.spec.minimum_valid:.0%} of its pixels.",
                "Choose a smaller share or smaller tiles, or images with less cloud.",
            )
        self.tiles = sorted(found, key=lambda tile: (tile.place, tile.image))
        self.places = {place: n for n, place in enumerate(sorted({t.place for t in self.tiles}))}
        self._blocks = {place: block_of(self.images, place, self.spec) for place in self.places}
        spec = self.spec
        self.shares = {"train": 1 - spec.validation - spec.test, "val": spec.validation,
                       "test": spec.test}  # fmt: skip
        grounds = {
            place: footprint(
                self.images.tile_grid(place.lattice, place.row, place.col, self.spec.size)
            )
            for place in self.places
        }
        self.splits = split_ground(
            [self._blocks[tile.place] for tile in self.tiles],
            [grounds[tile.place] for tile in self.tiles],
            self.shares,
        )
        learned = set(self.splits["train"])
        self._learned = [number in learned for number in range(len(self.tiles))]
        self._running: dict[str, Running] = {}
        self._known: dict[str, list[float]] = {}
        self._info: dict[str, Any] = {}

    @property
    def known(self) -> dict[str, float]:
        """Share of the pixels of each modality that have data."""
        return {name: float(np.mean(shares)) for name, shares in self._known.items()}

    def write(self, path: Path, watch: Callable[[float], None]) -> None:
        """Write the h5 file.

        Args:
            path: of the file.
            watch: told of the share that is written; may raise.

        Raises:
            DiskFullError: if the disk is full.
        """
        numbers = {(tile.strip, tile.rank): n for n, tile in enumerate(self.tiles)}
        with explained(path), h5py.File(path, "w") as file:
            self._create(file)
            for number, strip in enumerate(self.strips):
                watch(number / len(self.strips))
                with np.load(self.folder / strip.name) as parts:
                    count = len(parts["kept"])
                    arrays = {key: parts[key] for key in parts.files if count}
                days = json.loads(str(arrays["dates"])) if count else []
                for rank in range(count):
                    row = numbers[number, rank]
                    self._put(file, row, self._layout.name, arrays["image"][rank])
                    for partner in self.partners:
                        self._put(file, row, partner.name, arrays[f"of_{partner.name}"][rank])
                    self._describe(file, row, days[rank])

    def write_beside(self, splits: Path, stats: Path, info: Path) -> None:
        """Write the JSON files, after the h5 file.

        Raises:
            DiskFullError: if the disk is full.
        """
        rows = {name: _statistics(running) for name, running in sorted(self._running.items())}
        ordered = {name: self._info[name] for name in sorted(self._info)}
        for path, content in ((splits, self.splits), (stats, rows), (info, ordered)):
            with explained(path):
                path.write_text(json.dumps(content, indent=1), "utf-8")

    def _create(self, file: h5py.File) -> None:
        count, size = len(self.tiles), self.spec.size

        def create(name: str, shape: tuple[int, ...], dtype: Any, **attributes: Any) -> None:
            dataset = file.create_dataset(
                name, (count, *shape), dtype, chunks=(1, *shape), compression="gzip"
            )
            for key, value in attributes.items():
                dataset.attrs[key] = value

        layout = self._layout
        create(
            layout.name,
            (len(layout.bands), size, size),
            np.uint16 if layout.integers else np.float32,
            bands=np.array(layout.bands, h5py.string_dtype()),
            scale=self.sensor.scale if layout.integers else 1.0,
            nodata=[0.0 if layout.integers else math.nan],
            pixel_m=self.images.lattices[0].pixel_m,
        )
        for partner in self.partners:
            codes = {"codes": partner.modality.codes} if partner.modality.codes else {}
            create(
                partner.name,
                (partner.channels, size, size),
                partner.dtype,
                kind=partner.modality.kind,
                nodata=[partner.empty],
                **codes,
            )
        for name in ("lat", "lon", *(["month"] if self._dated else [])):
            create(name, (2,), np.float32)
        file.create_dataset(PLACE, (count,), np.int64)
        fields = np.dtype([("tile_id", "S100"), ("S2_type", "S10")])
        file.create_dataset(METADATA, (count,), fields, chunks=(1,), compression="gzip")

    @property
    def _dated(self) -> bool:
        return any(ready.image.date for ready in self.images.ready)

    def _put(self, file: h5py.File, row: int, name: str, values: NDArray[Any]) -> None:
        """Write a modality of a tile, and count it in."""
        file[name][row] = values
        measured = values.astype(np.float64)
        if name == self._layout.name:
            if self._layout.integers:
                measured[values == 0] = np.nan
            level = self._level(row)
            key = f"{name}_{level.lower()}" if level else name
        else:
            key = name
            partner = next((one for one in self.partners if one.name == name), None)
            if partner and partner.modality.codes:
                self._known.setdefault(name, []).append(float((values != partner.empty).mean()))
                return
            if partner:
                self._known.setdefault(name, []).append(float(np.isfinite(measured).mean()))
        running = self._running.setdefault(key, Running(len(values)))
        if self._learned[row]:
            running.add(measured)

    def _level(self, row: int) -> str:
        return self.images.ready[self.tiles[row].image].image.level

    def _describe(self, file: h5py.File, row: int, days: Mapping[str, str]) -> None:
        """Write where and when a tile is."""
        tile, spec = self.tiles[row], self.spec
        place, image = tile.place, self.images.ready[tile.image]
        number, when = self.places[place], image.image.date
        lon, lat = self.images.place_of(place.lattice, place.row, place.col, spec.size)
        for name, degrees in (("lat", lat), ("lon", lon)):
            self._put(file, row, name, _circle(math.radians(degrees)))
        if self._dated:
            month = _circle(2 * math.pi * when.month / 12) if when else np.full(2, -np.inf)
            self._put(file, row, "month", month)
        identifier = f"{number:07d}-{tile.image:04d}"
        file[PLACE][row] = number
        file[METADATA][row] = (identifier, self._level(row).lower())
        grid = self.images.tile_grid(place.lattice, place.row, place.col, spec.size)
        self._info[identifier] = {
            "S2_DATE": str(when or ""),
            "S2_type": self._level(row).lower(),
            "CRS": crs_text(grid.crs),
            "bounds": list(grid.bounds),
            "lat": lat,
            "lon": lon,
            "image": Path(image.title).name,
            "block": list(self._blocks[place]),
            "dates": dict(days),
            "BANDS": {self._layout.name: list(self.images.bands)},
        }


def _circle(radians: float) -> NDArray[np.float64]:
    return np.array([math.sin(radians), math.cos(radians)])


def _statistics(running: Running) -> dict[str, list[float | None]]:
    """Return what is written of a modality; nothing of a channel without data."""
    columns = {"mean": running.mean, "std": running.std, "min": running.low, "max": running.high}
    return {
        name: [
            float(value) if known else None
            for value, known in zip(values, running.count, strict=True)
        ]
        for name, values in columns.items()
    }
