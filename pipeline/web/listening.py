"""Serving an application on a port of this computer until Ctrl-C."""

import socket
from contextlib import suppress
from typing import Any

from pipeline.core.errors import UserError

CONNECTIONS = 256  # at once; further ones are refused for a while


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any that is free. Raises UserError where the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen at {host}, port {port} ({error}); choose another --port or --host") from None


def run(app: Any, listener: socket.socket) -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    with suppress(KeyboardInterrupt):  # which it raises once more after it has stopped
        uvicorn.Server(configuration(app)).run(sockets=[listener])


def configuration(app: Any) -> Any:
    """Return uvicorn's settings: no log of who asks what, and no address but that of the connection is believed."""
    import uvicorn

    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
    )
