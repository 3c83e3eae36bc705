"""The routes of the service."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version as package_version
from typing import Any

import rasterio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mmearth import __version__, api
from mmearth.errors import MMEarthError, ModelInUseError, listed
from mmearth.jobs.registry import KINDS, plan_job
from mmearth.models.registry import find_model, installed_models
from mmearth.models.store.library import remove
from mmearth.models.store.published import published_models
from mmearth.service.security import Gate
from mmearth.service.supervisor import Supervisor
from mmearth.settings import Settings

OTHER_VERSION = "The plugin and the backend are of different versions: restart the backend."


def create_app(
    settings: Settings,
    supervisor: Supervisor,
    *,
    on_request: Callable[[], None] = lambda: None,
    on_shutdown: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make the service.

    Args:
        settings: settings of the backend; its token is the only one accepted.
        supervisor: queue of jobs.
        on_request: called for every request that passes the gate.
        on_shutdown: called when a request asks the service to end.
    """
    app = FastAPI(
        title="MMEarth backend",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses={422: {"model": api.ErrorBody}},
    )
    app.add_middleware(Gate, token=settings.token, on_request=on_request)
    app.add_exception_handler(MMEarthError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)

    @app.get("/v1/health")
    def health() -> api.Health:
        """Tell that the service is alive, and what it does."""
        return api.Health(running=supervisor.running, queued=supervisor.queued)

    @app.get("/v1/info")
    def info() -> api.ServiceInfo:
        """Tell versions and settings."""
        return api.ServiceInfo(
            version=__version__,
            pid=os.getpid(),
            python=platform.python_version(),
            gdal=rasterio.__gdal_version__,
            torch=package_version("torch"),
            device=settings.device,
            threads=settings.cpu_threads,
            home=str(settings.home),
        )

    @app.get("/v1/models")
    def models() -> api.ModelList:
        """List the installed models; one without products is an encoder, to be trained."""
        return _installed(settings)

    @app.get("/v1/models/{model_id}")
    def model(model_id: str) -> api.ModelInfo:
        """Describe a model."""
        return find_model(model_id, settings.model_folders).info()

    @app.delete("/v1/models/{model_id}")
    def remove_model(model_id: str) -> api.ModelList:
        """Remove a model that the user has installed; return those that are left."""
        if any(_uses(job, model_id) for job in supervisor.all()):
            raise ModelInUseError(
                f"A job that runs or waits needs the model {model_id}.",
                "Wait for its end, or cancel it.",
            )
        remove(model_id, settings)
        return _installed(settings)

    @app.get("/v1/published")
    def published() -> api.PublishedList:
        """List the published encoders, and which models were made of them."""
        installed = {card.id for card in installed_models(settings.model_folders)}
        models = published_models(settings.published)
        return api.PublishedList(models=[model.info(installed) for model in models])

    @app.post("/v1/plan")
    def plan(spec: api.JobSpec) -> api.Plan:
        """Say what a job would do, without doing it."""
        return plan_job(spec, settings)

    @app.post("/v1/jobs", status_code=201)
    def create_job(spec: api.JobSpec) -> api.Job:
        """Queue a job."""
        return supervisor.submit(spec)

    @app.get("/v1/jobs")
    def jobs() -> api.JobList:
        """List jobs, newest first."""
        return api.JobList(jobs=supervisor.all())

    @app.get("/v1/jobs/{job_id}")
    def job(job_id: str) -> api.Job:
        """Tell where a job stands; once it succeeded, with its results."""
        return supervisor.get(job_id)

    @app.get("/v1/jobs/{job_id}/results")
    def results(job_id: str) -> api.JobResult:
        """Return the results of a job that succeeded."""
        found = supervisor.get(job_id)
        if found.result is None:
            raise ResultMissingError(f"The job has no result: it is {found.state.value}.")
        return found.result

    @app.post("/v1/jobs/{job_id}/cancel")
    def cancel(job_id: str) -> api.Job:
        """Stop a job."""
        return supervisor.cancel(job_id)

    @app.delete("/v1/previews")
    def forget_previews() -> api.Health:
        """Free what is kept for previews, and forget those that are over."""
        supervisor.forget_previews()
        return api.Health(running=supervisor.running, queued=supervisor.queued)

    @app.post("/v1/shutdown", status_code=202)
    def shutdown() -> api.Health:
        """End the service."""
        on_shutdown()
        return api.Health()

    return app


class ResultMissingError(MMEarthError):
    """Raised when results are asked of a job that has none."""

    code = "no_result"
    status = 409


def _installed(settings: Settings) -> api.ModelList:
    cards = installed_models(settings.model_folders)
    return api.ModelList(models=[card.info() for card in cards])


def _uses(job: api.Job, model_id: str) -> bool:
    return not job.state.over and getattr(job.spec, "model", None) == model_id


def _answer(status: int, problem: api.Problem) -> JSONResponse:
    return JSONResponse(api.ErrorBody(error=problem).model_dump(), status)


def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, MMEarthError):
        return _answer_unexpected(_request, error)
    return _answer(error.status, api.Problem.of(error))


def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Answer a path or a method that the interface does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = f"The interface has no {request.method} {request.url.path} (HTTP status {status})."
    return _answer(status, _request_problem(words))


def _answer_invalid(_request: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    if any(item["type"] == "json_invalid" for item in found):
        return _answer(422, api.Problem(code="request", message="The request is no valid JSON."))
    words = "; ".join(_why_invalid(item) for item in found)
    return _answer(422, _request_problem(f"The request does not fit the interface: {words}."))


def _why_invalid(item: dict[str, Any]) -> str:
    """Put a finding of pydantic in words; its own hold jargon where the kind is unknown."""
    kinds = f"the kinds are {listed(sorted(KINDS))}"
    if item["type"] == "union_tag_not_found":
        return f"it does not say the kind of job in 'kind'; {kinds}"
    if item["type"] == "union_tag_invalid":
        return f"there is no job of kind '{item['ctx']['tag']}'; {kinds}"
    return f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}"


def _request_problem(message: str) -> api.Problem:
    return api.Problem(code="request", message=message, advice=OTHER_VERSION)


def _answer_unexpected(_request: Request, error: Exception) -> JSONResponse:
    """Answer what nobody foresaw; the server writes it to the log."""
    problem = api.Problem(
        code="error",
        message=f"Something went wrong that should not: {type(error).__name__}.",
        advice="Please report it, with the log file of the backend.",
    )
    return _answer(500, problem)
