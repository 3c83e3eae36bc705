"""A plan says what stands out, without standing in the way."""

from __future__ import annotations

from mmearth.api import BandChoice, RasterInput, SegmentSpec
from mmearth.jobs.prepare import plan


def test_bands_that_share_a_raster_band_are_a_warning(scene, settings) -> None:
    spec = SegmentSpec(
        inputs=[RasterInput(path=str(scene), label="")],
        model="tiny",
        bands=[BandChoice(band=name, input=0, index=2) for name in ("B02", "B03")],
    )
    result = plan(spec, settings)
    assert result.ready
    [warning] = [warning for warning in result.warnings if warning.code == "shared_bands"]
    assert "B02 and B03" in warning.message
