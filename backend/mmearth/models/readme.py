"""A model's card in words, for people who open its folder."""

from __future__ import annotations

from collections.abc import Sequence

from mmearth.models.card import ModelCard

README_NAME = "README.md"
DIAGRAM_NAME = "reliability.svg"


def describe(card: ModelCard) -> str:
    """Return the card as Markdown; every figure in it is the card's.

    A diagram of reliability that lies in its folder is shown.
    """
    parts = [
        f"# {card.title}",
        card.description,
        f"Version {card.version}, licence {card.licence}. Made by MMEarth for QGIS from "
        "`model.json`; do not edit.",
        _table(
            ("", ""),
            [
                ("Sensor", f"{card.sensor}, level {' or '.join(card.levels)}"),
                ("Bands, in order", " ".join(card.bands)),
                ("Pixel size", f"{card.resolution_m:g} m"),
                _use(card),
                ("Network", card.network.title),
                ("Weights (SHA-256)", f"`{card.sha256}`"),
            ],
        ),
    ]
    if card.classes:
        parts += ["## Classes", _classes(card)]
    if card.accuracy:
        rows = [(row.name, f"{row.value:.3f}", row.data) for row in card.accuracy]
        parts += ["## Measured", _table(("figure", "value", "on"), rows)]
    if (card.folder / DIAGRAM_NAME).is_file():
        parts += ["## Certainty", f"![How often the map is right]({DIAGRAM_NAME})", _DIAGRAM_WORDS]
    if card.limits:
        parts += ["## Weak spots", "\n".join(f"- {sentence}" for sentence in card.limits)]
    if card.training:
        facts = [(name.capitalize(), _plain(value)) for name, value in card.training.items()]
        parts += ["## Training", _table(("", ""), facts)]
    parts += ["## Attribution", card.attribution]
    return "\n\n".join(parts) + "\n"


_DIAGRAM_WORDS = (
    "Points on the dotted line are as often right as they say; below it, the model is too sure of "
    "itself, above it, too modest. The bars at the foot show how many pixels there are. "
    "Calibration divides the scores of the classes by their temperatures (Guo et al. 2017) before "
    "they become probabilities, so that, on average over places like these, a density, the mean "
    "probability of a class, comes close to its cover."
)


def _classes(card: ModelCard) -> str:
    head: tuple[str, ...] = ("value", "class", "name in files")
    rows: list[tuple[str, ...]] = [
        (str(row.value), row.title, f"`{row.name}`") for row in card.classes
    ]
    if isinstance(card.temperature, tuple):
        head = (*head, "temperature")
        rows = [(*row, f"{own:.3f}") for row, own in zip(rows, card.temperature, strict=True)]
    return _table(head, rows)


def _use(card: ModelCard) -> tuple[str, str]:
    if card.task == "segmentation":
        return "Products", ", ".join(_product(card, product.id) for product in card.products)
    return "Use", card.purpose


def _product(card: ModelCard, product_id: str) -> str:
    product = card.product(product_id)
    if product.fallback is not None:
        return f"{product.title} ({product.fallback} where no class reaches {product.threshold:g})"
    if not product.members:
        return product.title
    return f"{product.title} (probability of {', '.join(product.members)} ≥ {product.threshold:g})"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", then ".join(map(_plain, value))
    text = str(value)
    return f"`{text}`" if text.startswith("python ") else text


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
