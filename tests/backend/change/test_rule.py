"""The rules that are shipped: for the model that they were tuned with, and as they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes import ROOT

from benchmarks.disturbance import as_toml
from mmearth.change.rule import Rule, load_rules, parse, rule_for, tomllib
from mmearth.models.card import read_card


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.id)
class TestShippedRule:
    def test_is_tuned_with_the_model_that_is_shipped(self, rule: Rule) -> None:
        """After a new training: python -m benchmarks disturbance, and copy what it writes."""
        card = read_card(ROOT / "resources" / "models" / rule.model)
        assert rule.model_sha256 == card.sha256
        assert rule_for(card).id == rule.id or not rule.bands

    def test_is_read_as_it_is_written(self, rule: Rule) -> None:
        found = replace(rule, threshold=rule.threshold + 0.001)
        ((name, facts),) = tomllib.loads("\n".join(as_toml(found))).items()
        read = parse(name, facts)
        assert replace(read, threshold=0) == replace(rule, threshold=0)
        assert read.threshold == pytest.approx(found.threshold)
