"""Figures and the diagram of reliability, on cases that can be counted by hand, and drawn."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from safetensors.torch import load_file
from scenes import DATA

from benchmarks.calibration import card_figures, look
from mmearth.models.card import Accuracy
from mmearth.models.readme import DIAGRAM_NAME
from mmearth.models.save import save_model
from mmearth.training.calibration import probabilities_at
from mmearth.training.reliability import Calibration, density_error, diagram
from mmearth.training.softlabels import SoftTile

# Ten pixels at 0.85 of the first class, six of them of it, and ten at 0.35, three of them of it.
FIRST = np.repeat([0.85, 0.35], 10)
PROBABILITIES = np.stack([FIRST, 1 - FIRST], axis=1)
TRUTH = np.array([0] * 6 + [1] * 4 + [0] * 3 + [1] * 7)


def test_each_class_is_counted_at_its_own_probability() -> None:
    found = diagram(PROBABILITIES, TRUTH)
    assert found.agreement == 13 / 20
    assert found.mapped.counts.tolist() == [0, 0, 0, 0, 0, 0, 10, 0, 10, 0]
    assert found.mapped.accuracy[[6, 8]] == pytest.approx([0.7, 0.6])
    assert found.error == pytest.approx((0.05 + 0.25) / 2)
    first, second = found.classes
    assert first.confidence[[3, 8]] == pytest.approx([0.35, 0.85])
    assert first.accuracy[[3, 8]] == pytest.approx([0.3, 0.6])
    assert np.isnan(first.accuracy[0]) and second.counts.sum() == 20
    assert found.classwise_error == pytest.approx(first.error) == pytest.approx(0.15)


def test_a_teachers_probabilities_count_as_shares() -> None:
    assert diagram(PROBABILITIES, PROBABILITIES).classwise_error == pytest.approx(0)
    certain = diagram(PROBABILITIES, np.eye(2)[TRUTH])
    plain = diagram(PROBABILITIES, TRUTH)
    assert (certain.error, certain.agreement) == pytest.approx((plain.error, plain.agreement))


def test_density_is_judged_by_unit() -> None:
    """Of a large and a small tile, one has a tenth too much and the other three tenths too few."""
    units = np.repeat([7, 3], [90, 10])
    probability = np.where(units == 7, 0.6, 0.2)
    cover = np.where(units == 7, np.arange(100) % 2 == 0, np.arange(100) % 2 == 0)
    assert density_error(probability, cover, units) == pytest.approx((-0.1, np.sqrt(0.05)))


@pytest.fixture(scope="module")
def found():
    """Scores that are too timid by 3."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(20_000, 3)).astype(np.float32)
    chances = np.exp(3 * scores)
    chances /= chances.sum(axis=1, keepdims=True)
    truth = (chances.cumsum(axis=1) < random.uniform(size=(20_000, 1))).sum(axis=1)
    probabilities = (probabilities_at(scores, number) for number in (1.0, (1 / 3,) * 3))
    return Calibration(*(diagram(each, truth) for each in probabilities))


def test_figures_before_and_after_are_rows_of_a_card(found) -> None:
    rows = found.figures("some pixels")
    assert [Accuracy(**row).data for row in rows] == ["some pixels"] * 4
    values = {row["name"]: row["value"] for row in rows}
    assert values["Calibration error (ECE), before calibration"] > 0.15
    assert values["Calibration error (ECE), after calibration"] < 0.02
    assert values["Calibration error, mean of classes, after calibration"] < 0.02
    assert found.before.agreement == found.after.agreement


def test_the_diagram_is_a_file_of_its_own(found) -> None:
    """It needs no page: programs that show images know no variables and no picture in a picture."""
    svg = found.draw(1, "trees")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "var(" not in svg
    names = [part.tag.rpartition("}")[2] for part in root.iter()]
    assert names.count("svg") == 1 and names.count("polyline") == 4
    words = {part.text for part in root.iter() if part.tag.endswith("text")}
    assert {"Right", "Trees", "Probability of trees", "before", "calibrated"} <= words
    # The calibrated line runs along the dotted one: in pixels, as high as it is wide.
    line = next(part for part in root.iter() if part.get("class") == "line model" and "points" in
                part.attrib)  # fmt: skip
    ideal = next(part for part in root.iter() if part.get("class") == "ideal")
    x, y = (
        np.array([float(pair.split(",")[place]) for pair in line.get("points").split()])
        for place in (0, 1)
    )
    ends = {name: float(ideal.get(name)) for name in ("x1", "y1", "x2", "y2")}
    expected = np.interp(x, [ends["x1"], ends["x2"]], [ends["y1"], ends["y2"]])
    away, counts = np.abs(y - expected), found.after.mapped.counts
    assert away.max() < 20
    assert away[counts[counts > 0] > 500].max() < 2


def test_models_are_looked_at_as_users_run_them(tiny_facts, tiny_model, tmp_path) -> None:
    """Tiles are real; what the teacher says of them is what the model says at the temperature 1."""
    own = {**tiny_facts, "temperature": (0.5, 0.25, 2.0)}
    card = save_model(tmp_path / "own", load_file(tiny_model.weights), own)
    names = ["terramind_l2a.tif", "eurosat_forest_l1c.tif"]
    tiles = []
    for name in names:
        with rasterio.open(DATA / name) as dataset:
            shape, crs = dataset.shape, str(dataset.crs)
        facts = {"crs": crs}
        target = np.zeros((3, *shape), np.float32)
        tiles.append(SoftTile(facts, DATA / name, target, target, np.ones(shape, bool)))
        teacher = look(tiny_model, tiles[-1:]).before.T.reshape(3, *shape)
        tiles[-1] = SoftTile(facts, DATA / name, teacher, teacher, np.ones(shape, bool))
    nowhere = SoftTile({"crs": None}, DATA / "none.tif", target, target, tiles[-1].valid)
    seen = look(card, [*tiles, nowhere])
    assert seen.trees == 1 and np.bincount(seen.units).tolist() == [96 * 96, 64 * 64]
    np.testing.assert_allclose(seen.before, seen.target, atol=1e-6)
    taught = seen.calibration(seen.target)
    assert taught.before.classwise_error < 1e-6 < taught.after.classwise_error
    (before, _), (after, root) = seen.cover_error(seen.target)
    assert before == pytest.approx(0, abs=1e-6) and 0 < abs(after) <= root

    rows, svg = card_figures(seen)
    assert len(rows) == 6 and {row["data"] for row in rows} == {rows[0]["data"]}
    again = save_model(
        card.folder, load_file(card.weights), {**own, "accuracy": rows},
        beside={DIAGRAM_NAME: svg},
    )  # fmt: skip
    assert [figure.model_dump() for figure in again.accuracy] == rows
    assert DIAGRAM_NAME in (again.folder / "README.md").read_text("utf-8")
