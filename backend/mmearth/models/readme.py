"""A model's card in words, for people who open its folder."""

from __future__ import annotations

from collections.abc import Sequence

from mmearth.models.card import ModelCard

README_NAME = "README.md"


def describe(card: ModelCard) -> str:
    """Return the card as Markdown; every figure in it is the card's."""
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
                ("Products", ", ".join(_product(card, p.id) for p in card.products) or "none"),
                ("Network", f"{card.network.decoder} on {card.network.encoder}"),
                ("Weights (SHA-256)", f"`{card.sha256}`"),
            ],
        ),
    ]
    if card.classes:
        rows = [(str(row.value), row.title, f"`{row.name}`") for row in card.classes]
        parts += ["## Classes", _table(("value", "class", "name in files"), rows)]
    if card.accuracy:
        rows = [(row.name, f"{row.value:.3f}", row.data) for row in card.accuracy]
        parts += ["## Measured", _table(("figure", "value", "on"), rows)]
    if card.limits:
        parts += ["## Weak spots", "\n".join(f"- {sentence}" for sentence in card.limits)]
    if card.training:
        facts = [(name.capitalize(), _plain(value)) for name, value in card.training.items()]
        parts += ["## Training", _table(("", ""), facts)]
    parts += ["## Attribution", card.attribution]
    return "\n\n".join(parts) + "\n"


def _product(card: ModelCard, product_id: str) -> str:
    product = card.product(product_id)
    if product.fallback is not None:
        return f"{product.title} ({product.fallback} where no class reaches {product.threshold:g})"
    if not product.members:
        return product.title
    return f"{product.title} (probability of {', '.join(product.members)} ≥ {product.threshold:g})"


def _plain(value: object) -> str:
    text = str(value)
    return f"`{text}`" if text.startswith("python ") else text


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
