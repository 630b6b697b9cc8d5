"""Checks before every request: host, origin, content type, size and rate; and the headers of every response."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.web.rate_limits import TokenBuckets
from pipeline.web.refusals import Refused

LARGEST = 8192  # bytes of a request's body, unless an application allows more
SLOWEST = 10.0  # seconds for a request's body
TOO_MANY = "too many requests; wait a little"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class RateLimits:
    """Limits of the requests of one address, and of those with a wrong key or token.

    Beyond the second one wrong keys and tokens get another answer; right ones, perhaps of the same address, get theirs.
    """

    requests: TokenBuckets = field(default_factory=lambda: TokenBuckets(rate=200, burst=1000))
    failures: TokenBuckets = field(default_factory=lambda: TokenBuckets(rate=0.5, burst=30))


@dataclass(frozen=True)
class Guard:
    """ASGI middleware; refuses before anything is read from the database."""

    app: ASGIApp
    policy: str  # the content security policy
    hosts: tuple[str, ...] | None  # names under which this computer is asked; None: any
    limits: RateLimits
    patience: float = SLOWEST
    largest: int = LARGEST

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with why it is refused."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = (scope.get("client") or ("unknown",))[0]
        respond = _Response(send, {**HEADERS, "Content-Security-Policy": self.policy}, client, self.limits)
        try:
            headers = Headers(scope=scope)
            self._check_rate(client)
            self._check_origin(headers)
            body = await _body(scope["method"], headers, receive, self)
        except Refused as refusal:
            await respond.refuse(refusal)
        else:
            await self.app(scope, _Replay(body, receive), respond)

    def _check_rate(self, client: str) -> None:
        if not self.limits.requests.take(client):
            raise Refused(429, TOO_MANY)

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = _host_name(host)
        if self.hosts is not None and name not in self.hosts:
            raise Refused(400, "this computer is not known by that name")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host:
            raise Refused(403, "requests from other pages are refused")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refused(403, "requests from other pages are refused")


@dataclass
class _Response:
    """Sends responses with our headers, and counts failed authentications; too many get another answer."""

    send: Send
    headers: Mapping[str, str]
    client: str
    limits: RateLimits
    replaced: bool = False  # what the application still sends of its own answer is dropped

    async def __call__(self, message: Message) -> None:
        if self.replaced:
            return
        failed = message["type"] == "http.response.start" and message["status"] == 401
        if failed and not self.limits.failures.take(self.client):
            self.replaced = True
            await self.refuse(Refused(429, TOO_MANY))
        else:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in self.headers.items():
                headers[name] = value
        await self.send(message)

    async def refuse(self, refusal: Refused) -> None:
        """Send a whole response with why the request is refused."""
        body = json.dumps({"error": str(refusal)}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refusal.status == 429:
            headers.append((b"retry-after", b"2"))
        if refusal.status in (408, 413):
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


@dataclass
class _Replay:
    """Replays the body, which was read already; then passes on what follows, such as a closed connection."""

    body: bytes | None
    receive: Receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        message = {"type": "http.request", "body": self.body, "more_body": False}
        self.body = None
        return message


async def _body(method: str, headers: Headers, receive: Receive, guard: Guard) -> bytes | None:
    """Return the whole body of a POST. Raises Refused where it is not JSON (415), too large (413) or too slow (408)."""
    if method != "POST":
        return None
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Refused(415, "send JSON")
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > guard.largest:
        raise Refused(413, f"a request has at most {guard.largest} bytes")
    try:
        async with asyncio.timeout(guard.patience):
            return await _read(receive, guard.largest)
    except TimeoutError:
        raise Refused(408, f"the request's body did not come within {guard.patience:g} s") from None


async def _read(receive: Receive, largest: int) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > largest:
            raise Refused(413, f"a request has at most {largest} bytes")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return body


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
