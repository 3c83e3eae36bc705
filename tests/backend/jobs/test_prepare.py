"""A plan says what stands out, without standing in the way."""

from __future__ import annotations

import torch

from mmearth.api import BandChoice, RasterInput, SegmentSpec
from mmearth.jobs.prepare import plan
from mmearth.models.save import save_model


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


def test_a_model_that_predicts_values_is_refused_in_words(
    scene, settings, tiny_facts, tmp_path
) -> None:
    value = {"name": "density", "title": "tree cover density", "unit": "%", "range": (0, 100)}
    facts = {"id": "density", "task": "regression", "classes": (), "products": (), "value": value}
    save_model(tmp_path / "more" / "density", {"x": torch.ones(1)}, {**tiny_facts, **facts})
    settings = settings.model_copy(update={"models": tmp_path / "more"})
    spec = SegmentSpec(inputs=[RasterInput(path=str(scene), label="")], model="density")
    [problem] = plan(spec, settings).errors
    assert problem.code == "model" and "does not map classes" in problem.message
    assert "predicts tree cover density, 0 to 100 %" in problem.message
