"""Owns what every request has: the API key, consistency tokens, one idempotency key for all attempts, and problems as errors."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

import httpx

TOKEN = "Consistency-Token"
IDEMPOTENCY_KEY = "Idempotency-Key"
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Statuses after which the same request may succeed; 409 is one of them if the answer says when.
PASSING = frozenset({429, 502, 503, 504})
# By then every secondary has caught up, or has been given up.
TOKEN_AGE_S = 3_600.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class TesseraProblem(Exception):
    """An answer that is no success (RFC 9457).

    `code` tells kinds of problems apart, as in `feature-changed`. It and `problem` are None if something in front of the
    gateway answered.
    """

    def __init__(self, status: int, reason: str, problem: Mapping[str, Any] | None) -> None:
        super().__init__((problem or {}).get("detail") or f"{status} {reason}")
        self.status = status
        self.problem = problem
        self.code: str | None = (problem or {}).get("code")


class Wire:
    """The state that the requests of one client share. Threads may use it at the same time."""

    def __init__(self, *, key: str | None, patience: float, repeats_changes: bool) -> None:
        self._key = key
        self._patience = patience
        self._repeats_changes = repeats_changes
        # Tokens of changes, which reads must see, and when they came. A token also stands for those that its request sent.
        self._tokens: dict[str, float] = {}
        self._lock = threading.Lock()

    def prepare(self, request: httpx.Request) -> Attempts:
        """Completes a request before its first attempt; each further one is the same."""
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        if TOKEN not in request.headers and (tokens := self._recent_tokens()):
            request.headers[TOKEN] = ",".join(tokens)
        if request.method in CHANGES and self._repeats_changes and IDEMPOTENCY_KEY not in request.headers:
            request.headers[IDEMPOTENCY_KEY] = str(uuid.uuid4())
        request.url = _with_joined_lists(request.url)
        return Attempts(request, self._patience)

    def learn(self, request: httpx.Request, response: httpx.Response) -> None:
        """Keeps the token of an answer."""
        token = response.headers.get(TOKEN)
        if token is None:
            return
        with self._lock:
            for sent in request.headers.get(TOKEN, "").split(","):
                self._tokens.pop(sent, None)
            self._tokens[token] = time.monotonic()

    def _recent_tokens(self) -> list[str]:
        with self._lock:
            oldest = time.monotonic() - TOKEN_AGE_S
            self._tokens = {token: at for token, at in self._tokens.items() if at >= oldest}
            return list(self._tokens)


class Attempts:
    """Decides whether a request is sent again: only if that does no harm, and only for some time."""

    def __init__(self, request: httpx.Request, patience: float) -> None:
        # A body that comes from an iterator is gone after the first attempt.
        is_repeatable = isinstance(request.stream, httpx.ByteStream)
        is_safe = request.method not in CHANGES or IDEMPOTENCY_KEY in request.headers
        self._may_repeat = is_repeatable and is_safe
        self._ends = time.monotonic() + patience
        self._pause = FIRST_PAUSE_S

    def pause_after(self, response: httpx.Response | None) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there is none.

        `response` is None if the connection was lost.
        """
        if not self._may_repeat or (response is not None and not _passes(response)):
            return None
        asked = None if response is None else _retry_after(response)
        pause = asked if asked is not None else self._pause * random.uniform(0.5, 1.5)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
        return pause if time.monotonic() + pause <= self._ends else None


class SyncTransport(httpx.BaseTransport):
    """Sends requests over another transport, as `Wire` and `Attempts` have it."""

    def __init__(self, inner: httpx.BaseTransport, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        attempts = self._wire.prepare(request)
        while True:
            try:
                response = self._inner.handle_request(request)
            except httpx.TransportError:
                pause = attempts.pause_after(None)
                if pause is None:
                    raise
            else:
                self._wire.learn(request, response)
                if response.status_code < 400:
                    return response
                pause = attempts.pause_after(response)
                response.read()
                if pause is None:
                    raise _problem_of(response)
            time.sleep(pause)

    def close(self) -> None:
        self._inner.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """The same for asynchronous requests."""

    def __init__(self, inner: httpx.AsyncBaseTransport, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attempts = self._wire.prepare(request)
        while True:
            try:
                response = await self._inner.handle_async_request(request)
            except httpx.TransportError:
                pause = attempts.pause_after(None)
                if pause is None:
                    raise
            else:
                self._wire.learn(request, response)
                if response.status_code < 400:
                    return response
                pause = attempts.pause_after(response)
                await response.aread()
                if pause is None:
                    raise _problem_of(response)
            await asyncio.sleep(pause)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _passes(response: httpx.Response) -> bool:
    return response.status_code in PASSING or (response.status_code == 409 and _retry_after(response) is not None)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _problem_of(response: httpx.Response) -> TesseraProblem:
    is_problem = "problem+json" in response.headers.get("Content-Type", "")
    return TesseraProblem(response.status_code, response.reason_phrase, response.json() if is_problem else None)


def _with_joined_lists(url: httpx.URL) -> httpx.URL:
    """The API writes lists with commas; the generated code repeats the parameter."""
    lists: dict[str, list[str]] = {}
    for name, value in url.params.multi_items():
        lists.setdefault(name, []).append(value)
    if all(len(values) == 1 for values in lists.values()):
        return url
    return url.copy_with(params={name: ",".join(values) for name, values in lists.items()})
