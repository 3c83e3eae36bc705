"""The committed interface is the one that the code speaks."""

from __future__ import annotations

import json

import pytest
from scenes import ROOT

from mmearth.service.openapi import COMMITTED, describe

IDS = [f"{m.upper()} {p}" for p, methods in describe()["paths"].items() for m in methods]


def test_committed_interface_is_up_to_date() -> None:
    committed = json.loads(COMMITTED.read_text("utf-8"))
    assert committed == describe(), "run: python -m mmearth.service.openapi"


def test_it_lies_where_the_plugin_expects_it() -> None:
    assert COMMITTED == ROOT / "backend" / "openapi.json"


@pytest.mark.parametrize("route", IDS)
def test_every_route_is_described(route: str) -> None:
    method, path = route.split()
    operation = describe()["paths"][path][method.lower()]
    assert operation["description"]
    success = next(answer for code, answer in operation["responses"].items() if code < "300")
    schema = success["content"]["application/json"]["schema"]
    assert all("$ref" in one for one in schema.get("oneOf", [schema]))
