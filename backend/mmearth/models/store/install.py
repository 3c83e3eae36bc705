"""Installing a model: downloaded, from a file of weights, or from a model folder or its zip."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mmearth.api import InstallSpec
from mmearth.errors import DownloadError, JobCancelled, OutputError, WeightsError
from mmearth.files import explained
from mmearth.models.card import ModelCard
from mmearth.models.registry import build_network
from mmearth.models.store.download import download
from mmearth.models.store.library import place, renamed, staging
from mmearth.models.store.published import PublishedModel
from mmearth.models.store.source import WEIGHTS, Source, importer
from mmearth.processes import exclusive
from mmearth.sensors import load_sensor
from mmearth.settings import Settings

# Of the progress bar; the rest is for checking the model.
DOWNLOAD_SHARE, MODEL_SHARE = 0.8, 0.95

Report = Callable[[float, str, float | None], None]


def install(
    source: Source,
    spec: InstallSpec,
    settings: Settings,
    *,
    report: Report = lambda progress, stage, eta: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ModelCard:
    """Install a model, whole or not at all.

    Args:
        source: what ``find_source`` found for the request.
        spec: the request.
        settings: settings of the backend.
        report: called with progress (0..1), what is being done, and seconds left if known.
        cancelled: asked often.

    Returns:
        The card of the installed model.

    Raises:
        ModelError: if the model is damaged, or not one that this version can run.
        DownloadError: if it cannot be downloaded.
        OutputError: if it cannot be written.
        JobCancelled: if it is cancelled; what was downloaded is kept, to go on with.
    """
    _check_cancelled(cancelled)
    if source.published:
        return _download_and_make(source.published, spec, settings, report, cancelled)
    return _make(source.importer, source.path, spec, settings, 0.0, report, cancelled)


def _download_and_make(
    model: PublishedModel,
    spec: InstallSpec,
    settings: Settings,
    report: Report,
    cancelled: Callable[[], bool],
) -> ModelCard:
    folder = settings.downloads_folder / model.id
    path = folder / model.file_name
    with _alone(model, folder):
        if not path.exists():  # an earlier run may have been stopped after the download
            download(
                model.url,
                path,
                sha256=model.sha256,
                size=model.size,
                proxy=settings.proxy.get_secret_value(),
                progress=_Clock(report),
                cancelled=cancelled,
            )
        try:
            card = _make(WEIGHTS, path, spec, settings, DOWNLOAD_SHARE, report, cancelled)
        except WeightsError:
            path.unlink()  # of no use; a later try may find a better one
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return card


@contextlib.contextmanager
def _alone(model: PublishedModel, folder: Path) -> Iterator[None]:
    """Make a folder for a download, and keep others out of it."""
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive(folder.with_name(f"{model.id}.lock"), wait=False))
        except BlockingIOError:
            raise DownloadError(
                f"{model.title} is being downloaded by another window or program.",
                "Wait until it is installed there.",
            ) from None
        except OSError as error:
            raise OutputError(
                f"The folder of downloads, {folder}, cannot be written to: {error}.",
                "Make it writable, or set MMEARTH_HOME to a folder that is.",
            ) from error
        yield


class _Clock:
    """Turns bytes that have arrived into progress, words and seconds left."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._begin: tuple[float, int] | None = None

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        self._begin = self._begin or (now, done)
        begin, first = self._begin
        if not total:
            self._report(0.0, f"Downloading: {done / 2**20:,.0f} MB", None)
            return
        speed = (done - first) / (now - begin) if now > begin else 0.0
        words = f"Downloading {done / 2**20:,.0f} of {total / 2**20:,.0f} MB"
        left = (total - done) / speed if speed > 0 else None
        self._report(DOWNLOAD_SHARE * done / total, words, left)


def _make(
    name: str,
    path: Path,
    spec: InstallSpec,
    settings: Settings,
    share: float,
    report: Report,
    cancelled: Callable[[], bool],
) -> ModelCard:
    """Make a model folder of a file or folder, check it, and put it in its place."""
    report(share, f"Reading {path.name}", None)
    written = 0

    def tick(count: int) -> None:
        nonlocal written
        written += count
        _check_cancelled(cancelled)
        report(share, f"Writing the model: {written / 2**20:,.0f} MB", None)

    with staging(settings) as folder:
        _check_cancelled(cancelled)
        with explained(settings.own_models):
            card = importer(name).make_model(path, spec, folder, settings, tick)
            card = renamed(card, spec)
        _check_cancelled(cancelled)
        report(MODEL_SHARE, "Checking the model", None)
        _check(card)
        _check_cancelled(cancelled)
        return place(card, folder, settings)


def _check(card: ModelCard) -> None:
    """Check that this version can run a model.

    Raises:
        ModelError: if it cannot.
    """
    # Takes seconds: not for whoever only plans.
    from mmearth.models.network import load_weights
    from mmearth.models.onnx.check import look_at

    sensor = load_sensor(card.sensor)
    for band in card.bands:
        sensor.band(band)
    card.check_weights()
    if card.is_onnx:  # whatever way it came, it may hold what must not be opened
        look_at(card.weights)
    network = build_network(card.network, in_channels=len(card.bands), classes=card.output_count)
    load_weights(network, card)


def _check_cancelled(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise JobCancelled("Cancelled.")
