"""What the service answers, and to whom: a real process, shared by these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx
import pytest
from scenes import ROOT

from mmearth import __version__
from mmearth.api import API_VERSION, SegmentSpec
from mmearth.jobs.registry import KINDS
from mmearth.settings import Settings
from service.client import TOKEN, Service, make_spec


@pytest.fixture(scope="module")
def settings(tiny_model, tmp_path_factory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(tiny_model.folder.parent)
    return Settings(home=home, device="cpu", threads=1)


@pytest.fixture(scope="module")
def service(settings):
    with Service(settings.home) as running:
        yield running
        assert running.get("/jobs")["jobs"] == []  # what was refused was not begun


@pytest.fixture
def spec(scene, tmp_path) -> SegmentSpec:
    return make_spec(scene, tmp_path)


def committed_openapi() -> dict:
    return json.loads((ROOT / "backend" / "openapi.json").read_text("utf-8"))


class TestAccess:
    def test_handshake(self, service) -> None:
        assert service.hello == {
            "app": "mmearth",
            "version": __version__,
            "api": API_VERSION,
            "pid": service.process.pid,
            "port": service.hello["port"],
        }

    def test_listens_on_loopback_only(self, service) -> None:
        import psutil

        listening = [
            connection.laddr.ip
            for connection in psutil.Process(service.process.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]

    @pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer", TOKEN])
    def test_token_is_required_on_every_route(self, service, header) -> None:
        headers = {"Authorization": header} if header else {}
        with httpx.Client(headers=headers, timeout=20, trust_env=False) as stranger:
            for path, methods in committed_openapi()["paths"].items():
                for method in methods:
                    url = service.url + path.format(job_id="x", model_id="x")
                    answer = stranger.request(method, url, json={})
                    assert answer.status_code == 401, (method, path)
                    assert answer.json()["error"]["code"] == "access"

    @pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
    def test_other_hosts_are_refused(self, service, host) -> None:
        headers = {"Host": host.format(port=service.hello["port"])}
        assert service.http.get("/health", headers=headers).status_code == 421

    @pytest.mark.parametrize("content", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_bodies_must_be_json(self, service, spec, content) -> None:
        body = spec.model_dump_json()
        answer = service.http.post("/jobs", content=body, headers={"Content-Type": content})
        assert answer.status_code == 415

    def test_nothing_is_served_but_the_interface(self, service) -> None:
        for path in ("/", "/docs", "/openapi.json", "/v1", "/v1/../health", "/v1/jobs/..%2f.."):
            assert service.http.get(service.url + path).status_code == 404

    def test_no_token_no_service(self, settings) -> None:
        environment = {**os.environ, "MMEARTH_HOME": str(settings.home), "MMEARTH_TOKEN": ""}
        run = subprocess.run(
            [sys.executable, "-m", "mmearth", "serve"],
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert run.returncode == 1 and "token" in run.stderr

    def test_token_is_not_in_the_arguments_or_the_log(self, service, settings) -> None:
        import psutil

        assert TOKEN not in " ".join(psutil.Process(service.process.pid).cmdline())
        service.get("/info")
        assert TOKEN not in (settings.logs_folder / "service.log").read_text()


class TestAnswers:
    def test_info_and_models(self, service, settings) -> None:
        info = service.get("/info")
        assert (info["version"], info["api"]) == (__version__, API_VERSION)
        assert info["home"] == str(settings.home)
        assert "tiny" in [model["id"] for model in service.get("/models")["models"]]
        assert service.get("/models/tiny")["products"][1]["id"] == "treemask"

    @pytest.mark.parametrize("path", ["/jobs/nothing", "/jobs/nothing/results", "/models/nothing"])
    def test_unknown_things(self, service, path) -> None:
        answer = service.http.get(path)
        assert answer.status_code in (404, 422)
        assert set(answer.json()["error"]) == {"code", "message", "advice"}

    def test_plan(self, service, spec) -> None:
        plan = service.post("/plan", spec.model_dump(mode="json"))
        assert plan["tiles"] == 12 and plan["errors"] == []

    @pytest.mark.parametrize(
        "change", [{"model": 7}, {"inputs": "x"}, {"surprise": 1}, {"minimum_area_ha": -1}]
    )
    def test_requests_that_do_not_fit_are_told(self, service, spec, change) -> None:
        answer = service.http.post("/jobs", json={**spec.model_dump(mode="json"), **change})
        assert answer.status_code == 422
        assert next(iter(change)) in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("kind", "words"),
        [({}, "does not say the kind of job"), ({"kind": "paint"}, "no job of kind 'paint'")],
    )
    def test_kinds_of_jobs_are_named(self, service, spec, kind, words) -> None:
        body = {**spec.model_dump(mode="json", exclude={"kind"}), **kind}
        for path in ("/plan", "/jobs"):
            answer = service.http.post(path, json=body)
            assert answer.status_code == 422
            message = answer.json()["error"]["message"]
            assert words in message and "discriminator" not in message
            assert all(known in message for known in KINDS)

    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "words"),
        [
            ("GET", "/nowhere", None, 404, "has no GET /v1/nowhere"),
            ("PUT", "/health", "{}", 405, "has no PUT /v1/health"),
            ("POST", "/plan", "{", 422, "no valid JSON"),
            (
                "POST",
                "/plan",
                '{"kind": "segment", "inputs": [], "model": "m", "minimum_area_ha": NaN}',
                422,
                "finite",
            ),
        ],
    )
    def test_whatever_fails_is_told_alike(self, service, method, path, body, status, words) -> None:
        json_type = {"Content-Type": "application/json"}
        answer = service.http.request(method, path, content=body, headers=json_type)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "advice"} and words in error["message"]
        assert ("versions" in error["advice"]) is (words != "no valid JSON")
