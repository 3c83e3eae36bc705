"""Talking to the backend over HTTP on the loopback interface."""

import time
from typing import Any, Callable, Dict

from .errors import BackendError
from .process import Address

ANSWER_SECONDS = 30.0
PLAN_SECONDS = 120.0  # a plan reads samples of every raster, perhaps from a slow drive
POLL_SECONDS = 0.1
OVER = ("succeeded", "failed", "cancelled")

Json = Dict[str, Any]


class Client:
    """One method a route of ``backend/openapi.json``; answers are plain dictionaries."""

    def __init__(self, address: Address) -> None:
        # Imported here, because it takes longer than all of the plugin's start.
        import requests

        self._requests = requests
        self._session = requests.Session()
        self._session.trust_env = False  # the system's proxy must not see loopback requests
        self._session.headers["Authorization"] = f"Bearer {address.secret}"
        self._base = f"http://127.0.0.1:{address.port}/v1"

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def health(self) -> Json:
        """Tell whether the backend answers."""
        return self._get("/health")

    def info(self) -> Json:
        """Return versions and settings of the backend."""
        return self._get("/info")

    def models(self) -> Json:
        """Return the installed models."""
        return self._get("/models")

    def published(self) -> Json:
        """Return the published encoders, and which of them are installed."""
        return self._get("/published")

    def remove_model(self, model_id: str) -> Json:
        """Delete an installed model; one that came with the plugin is refused."""
        return self._delete(f"/models/{model_id}")

    def plan(self, spec: Json) -> Json:
        """Return what a job would do."""
        return self._post("/plan", spec, PLAN_SECONDS)

    def create_job(self, spec: Json) -> Json:
        """Queue a job."""
        return self._post("/jobs", spec)

    def job(self, job_id: str) -> Json:
        """Return a job and where it stands."""
        return self._get(f"/jobs/{job_id}")

    def cancel(self, job_id: str) -> Json:
        """Stop a job."""
        return self._post(f"/jobs/{job_id}/cancel", {})

    def forget_previews(self) -> Json:
        """Free what the backend keeps for previews."""
        return self._delete("/previews")

    def run_job(
        self,
        spec: Json,
        report: Callable[[Json], None],
        cancelled: Callable[[], bool],
        every: float = POLL_SECONDS,
    ) -> Json:
        """Queue a job, follow it to its end, and return its last state.

        Args:
            spec: what to do.
            report: called with the job now and then.
            cancelled: asked often; the job is then stopped.
            every: seconds between looks at it.

        Raises:
            BackendError: if the backend refuses it or goes away, or the job fails.
        """
        job = self.create_job(spec)
        told = False
        while job["state"] not in OVER:
            time.sleep(every)
            if cancelled() and not told:
                told = True
                job = self.cancel(job["id"])
            else:
                job = self.job(job["id"])
            report(job)
        if job["state"] == "failed":
            raise _error(job["error"])
        return job

    def _get(self, path: str) -> Json:
        return self._send("GET", path, ANSWER_SECONDS)

    def _post(self, path: str, body: Json, seconds: float = ANSWER_SECONDS) -> Json:
        return self._send("POST", path, seconds, json=body)

    def _delete(self, path: str) -> Json:
        return self._send("DELETE", path, ANSWER_SECONDS)

    def _send(self, method: str, path: str, seconds: float, **options: Any) -> Json:
        try:
            answer = self._session.request(method, self._base + path, timeout=seconds, **options)
            body = answer.json()
        except (self._requests.RequestException, ValueError) as error:
            raise BackendError(
                "The backend does not answer.",
                "It may have ended: run again; it is started anew and goes on where it stopped.",
                details=str(error),
                code="connection",
            ) from error
        if answer.status_code >= 400:
            raise _error(body.get("error", {}))
        return body


def _error(problem: Json) -> BackendError:
    return BackendError(
        problem.get("message", "The backend reports an error without words."),
        problem.get("advice", ""),
        code=problem.get("code", ""),
    )
