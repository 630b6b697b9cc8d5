"""The server: the application on a port of this computer, until it is stopped."""

import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.core.errors import UserError
from pipeline.web import listening
from pipeline.web.guard import LOOPBACK
from pipeline.web.rating.database import Database

SHORTEST = 16  # characters of a token


@dataclass(frozen=True)
class Address:
    """Where the page is served, and for whom."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any that is free
    token: str | None = None  # None: one is made where other computers can connect
    keys: Mapping[str, str] = field(default_factory=dict)  # of raters, by name


def serve(database: Database, address: Address, write: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `write` gets the links. Raises UserError where address or token will not do."""
    from pipeline.web.rating.app import create_app

    local = address.host in LOOPBACK
    _check_token(address.token)
    token = address.token or (None if local else secrets.token_urlsafe(24))
    app = create_app(database, token, LOOPBACK if local else None)
    with listening.listen(address.host, address.port) as listener:
        for line in _links(address, listener.getsockname()[1], token):
            write(line)
        listening.run(app, listener)


def _check_token(token: str | None) -> None:
    if token is not None and len(token) < SHORTEST:
        raise UserError(
            f"--token has {len(token)} characters and could be guessed; use at least {SHORTEST}, or leave it out, and"
            " one is made"
        )


def _links(address: Address, port: int, token: str | None) -> list[str]:
    """Return the links for the raters; what stands behind # reaches no log and no other server."""
    name = socket.getfqdn() if address.host in ("0.0.0.0", "::") else address.host
    top = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
    secret = f"token={token}" if token else ""
    lines = [f"rating page: {top}{f'#{secret}' if secret else ''}"]
    for rater, key in address.keys.items():
        lines.append(f"personal link of {rater}: {top}#{'&'.join(filter(None, [secret, f'key={key}']))}")
    return [*lines, "Ctrl-C stops it; nothing is lost"]
