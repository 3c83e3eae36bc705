"""Data sets whose crops are read from their files as they are drawn; memory holds one batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from mmearth.errors import EmptyAreaError, InputError, ModelError, listed
from mmearth.models.card import ModelCard
from mmearth.models.network import Normaliser
from mmearth.models.parts import Normalisation
from mmearth.pretraining.dataset import Dataset
from mmearth.pretraining.datasets.running import Running
from mmearth.pretraining.modality import Batch
from mmearth.sensors import Sensor

KNOWN, TRIES = 0.5, 8  # share of a crop with data, and how often one is drawn for it
MEASURED, MEASURED_SIDE = 256, 128  # parts of images that statistics are measured on, and pixels

Arrays = dict[str, NDArray[Any]]


class WindowedDataset(Dataset):
    """See ``mmearth.pretraining.dataset.Dataset``; places are drawn with equal chance.

    Crops are turned and mirrored at random, and drawn again if one of their dates holds little
    data. What a subclass keeps can be pickled, and is only read after it is made, so that several
    threads and processes may draw from it.
    """

    parts: tuple[str, ...] = ()

    def __init__(self, crop: int) -> None:
        self._side = crop

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of places."""

    @abstractmethod
    def _shape(self, place: int) -> tuple[int, int]:
        """Return height and width of the images of a place, in pixels."""

    @abstractmethod
    def _image(self, place: int, date: int, window: Window) -> NDArray[np.float32]:
        """Read a part of an image.

        Returns:
            (C, h, w) float32, what the sensor measures; NaN where a band has no data.
        """

    def _dates(self, place: int) -> int:
        """Return how many images there are of a place."""
        return 1

    def _others(self, place: int, date: int, window: Window) -> Arrays:
        """Read all other modalities, as they are in a batch."""
        return {}

    def _drawn(self, count: int, generator: np.random.Generator) -> list[int]:
        """Draw numbers of places."""
        return generator.integers(len(self), size=count).tolist()

    def _normalised(self, place: int, date: int, image: torch.Tensor) -> torch.Tensor:
        """Return an image, (C, h, w), as it is in a batch; NaN stays NaN."""
        return apply_normalisation(self.normalisation, image)

    def draw(self, count: int, generator: np.random.Generator) -> Batch:
        """Draw crops at random; see ``mmearth.pretraining.dataset.Dataset``.

        Raises:
            RasterReadError: if a file is damaged.
        """
        rows: dict[str, list[torch.Tensor]] = {one.name: [] for one in self.modalities}
        levels = {one.name: one.level for one in self.modalities}
        for place in self._drawn(count, generator):
            dates = [int(generator.integers(self._dates(place)))]
            (image,), window, turn = self._crops(place, dates, generator)
            rows[self.sensor].append(image)
            for name, values in self._others(place, dates[0], window).items():
                turned = turn(values) if levels[name] == "pixel" else values
                rows[name].append(torch.as_tensor(turned))
        return {name: torch.stack(values) for name, values in rows.items()}

    def draw_views(
        self, count: int, generator: np.random.Generator, views: int
    ) -> list[torch.Tensor]:
        """Draw crops of the same places on several dates.

        Returns:
            ``views`` tensors (B, C, H, W) like images of a batch, of different dates where there
            are several of a place, else of the same image.

        Raises:
            RasterReadError: if a file is damaged.
        """
        rows: list[list[torch.Tensor]] = [[] for _ in range(views)]
        for place in self._drawn(count, generator):
            order = generator.permutation(self._dates(place)).tolist()
            dates = [order[number % len(order)] for number in range(views)]
            for row, image in zip(rows, self._crops(place, dates, generator)[0], strict=True):
                row.append(image)
        return [torch.stack(row) for row in rows]

    def _crops(
        self, place: int, dates: list[int], generator: np.random.Generator
    ) -> tuple[list[torch.Tensor], Window, Callable[[NDArray[Any]], NDArray[Any]]]:
        """Return a crop on each date, where it is, and how it was turned."""
        side, most = self._side, -1.0
        for _ in range(TRIES):
            row, col = (int(generator.integers(size - side + 1)) for size in self._shape(place))
            tried = Window(col, row, side, side)
            found = {date: self._image(place, date, tried) for date in dict.fromkeys(dates)}
            known = min(float(np.isfinite(image).mean()) for image in found.values())
            if known > most:
                most, images, window = known, found, tried
            if most >= KNOWN:
                break
        turns, mirror = int(generator.integers(4)), bool(generator.integers(2))

        def turn(values: NDArray[Any]) -> NDArray[Any]:
            turned = np.rot90(values, turns, (-2, -1))
            return np.ascontiguousarray(turned[..., ::-1] if mirror else turned)

        done = {
            date: self._normalised(place, date, torch.from_numpy(turn(image)))
            for date, image in images.items()
        }
        return [done[date] for date in dates], window, turn

    def _measured(self, name: str) -> Normalisation:
        """Measure mean and spread of each band on images from all over the data set.

        Raises:
            EmptyAreaError: if a band has no data there.
            InputError: if a band holds one value only.
        """
        found = Running(len(self.bands))
        for place, date, window in sampled(len(self), self._shape, self._dates):
            found.add(self._image(place, date, window))
        check_varied(found, name, self.bands)
        return Normalisation(
            mean=tuple(float(f"{value:.6g}") for value in found.mean),
            std=tuple(float(f"{value:.6g}") for value in found.std),
        )


def sampled(
    places: int,
    shape: Callable[[int], tuple[int, int]],
    dates: Callable[[int], int] = lambda place: 1,
) -> Iterator[tuple[int, int, Window]]:
    """Yield parts of images from all over a data set, to measure it on; always the same.

    Args:
        places: number of them.
        shape: returns height and width of the images of a place.
        dates: returns how many there are.

    Yields:
        Place, date and part.
    """
    random, seen = np.random.default_rng(0), set()
    for number, place in enumerate(np.linspace(0, places - 1, MEASURED).astype(int).tolist()):
        height, width = shape(place)
        rows, cols = min(height, MEASURED_SIDE), min(width, MEASURED_SIDE)
        row, col = (int(random.integers(free + 1)) for free in (height - rows, width - cols))
        found = (place, number % dates(place), row, col)
        if found not in seen:
            seen.add(found)
            yield place, found[1], Window(col, row, cols, rows)


def check_varied(found: Running, name: str, channels: Sequence[str]) -> None:
    """Check that there is something to learn of each channel.

    Raises:
        EmptyAreaError: if one has no data.
        InputError: if one holds one value only.
    """
    empty = [title for title, known in zip(channels, found.count, strict=True) if not known]
    advice = "Leave them out, or check the value that stands for no data."
    if empty:
        raise EmptyAreaError(f"{name} holds no data of {listed(empty)}.", advice)
    flat = [
        f"{title} ({low:g})"
        for title, low, high in zip(channels, found.low, found.high, strict=True)
        if low == high
    ]
    if flat:
        raise InputError(
            f"{name} holds one value only of {listed(flat)}: nothing can be learned of it.", advice
        )


def choose_bands(
    wanted: list[str], like: ModelCard | None, held: tuple[str, ...], sensor: Sensor, name: str
) -> tuple[str, ...]:
    """Return the bands to read: those that are wanted, else of a model, else all that are held.

    Raises:
        InputError: if the data set does not hold one of them.
        ModelError: if the normalisation of the model cannot be taken over.
    """
    bands = tuple(wanted) or (like.bands if like else held)
    missing = [band for band in bands if band not in held]
    if missing:
        raise InputError(
            f"{name} has no {sensor.title} band {listed(missing)}; it has {listed(held)}.",
            "Choose other bands.",
        )
    if like and like.normalisation.inside:
        raise ModelError(
            f"{like.title} normalises its input by itself, in a way that cannot be taken over.",
            "Choose another model, or none.",
        )
    if like and len(bands) != len(like.normalisation.mean):
        raise InputError(
            f"{like.id} has {len(like.bands)} bands, found {len(bands)}.",
            "Leave the bands out: those of the model are then taken.",
        )
    return bands


def check_sensor(sensor: str, expected: tuple[str, ...], name: str) -> None:
    """Check that a data set is of a sensor.

    Raises:
        InputError: if it is not.
    """
    if sensor not in expected:
        raise InputError(
            f"{name} holds images of {listed(expected)}, not of {sensor}.",
            f"Choose {' or '.join(expected)} as the sensor.",
        )


def check_modalities(wanted: list[str], held: tuple[str, ...], name: str) -> None:
    """Check that a data set holds what is to be predicted.

    Raises:
        InputError: if it does not.
    """
    strange = [one for one in wanted if one not in held]
    if strange:
        raise InputError(f"{name} does not hold {listed(strange)}.", f"It holds {listed(held)}.")


def check_crop(crop: int, smallest: int, name: str) -> None:
    """Check that crops fit into images.

    Raises:
        InputError: if they do not.
    """
    if crop > smallest:
        raise InputError(
            f"Crops of {crop} pixels do not fit into the images of {name}: they are {smallest} "
            "pixels wide or high.",
            "Choose crops no larger than that.",
        )


def refuse_parts(split: str | None, name: str) -> None:
    """Check that all of a data set is asked for, which is not divided into parts.

    Raises:
        InputError: if a part is.
    """
    if split:
        raise InputError(
            f"{name} is not divided into parts, so there is no part {split!r}.",
            "Choose an empty one for all images.",
        )


def apply_normalisation(normalisation: Normalisation, image: torch.Tensor) -> torch.Tensor:
    """Return an image, (C, h, w), as a network reads it; NaN stays NaN."""
    anywhere = torch.ones(1, *image.shape[-2:], dtype=torch.bool)
    values: torch.Tensor = Normaliser(normalisation)(image[None], anywhere)
    return values[0]
