"""Who may talk to the service: only the process that started it.

A web page open in a browser on the same machine can send requests to 127.0.0.1 too. It does not
know the token; it cannot set the Host header to ours after rebinding a name of its own; and it
cannot send JSON without asking first. All three are checked on every route.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mmearth.api import ErrorBody, Problem
from mmearth.errors import AccessError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost")


class Gate:
    """ASGI middleware that lets nothing pass but JSON from the holder of the token."""

    def __init__(self, app: ASGIApp, *, token: str, on_request: Callable[[], None]) -> None:
        self._app = app
        self._token = token.encode()
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except AccessError as error:
            body = ErrorBody(error=Problem.of(error))
            await JSONResponse(body.model_dump(), error.status)(scope, receive, send)
            return
        self._on_request()
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        if scope["type"] != "http":
            raise AccessError("Only HTTP is spoken here.", 400)
        headers = Headers(scope=scope)
        port = scope["server"][1]
        allowed = {f"{host}:{port}" for host in LOOPBACK_HOSTS}
        if headers.get("host") not in allowed:
            raise AccessError("The Host header names another machine.", 421)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.encode(), self._token)
        if scheme.lower() != "bearer" or not self._token or not known:
            raise AccessError("The token is missing or wrong.", 401)
        content = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] in ("POST", "PUT", "PATCH") and content != "application/json":
            raise AccessError("The content type must be application/json.", 415)
