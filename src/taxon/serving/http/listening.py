"""Where a server listens, and what is said where it cannot."""

from __future__ import annotations

import errno
import os
import socket

from taxon.core.errors import InputError

_BACKLOG = 2048
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def listen(host: str, port: int, option: str) -> socket.socket:
    """Listen at an address.

    Args:
        option: by which another port is chosen.

    Raises:
        InputError: it cannot be used, and why.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} does not exist; choose one from 0 to 65535 with {option}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InputError(
            f"host '{host}' is not known ({error.strerror}); name an address of this machine "
            "with --host, such as 127.0.0.1"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        # On Windows this option would let two servers share the port.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(_bind_failure(host, port, option, error)) from error
    return listener


def _bind_failure(host: str, port: int, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is already in use; choose another with {option}"
    if error.errno == errno.EACCES:
        return (
            f"port {port} on {host} is not allowed for this user; choose one from 1024 on with "
            f"{option}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; choose another with --host"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def address_of(listener: socket.socket, port: int | None = None) -> str:
    """HOST:PORT as a client on this machine types it."""
    host, own_port = listener.getsockname()[:2]
    host = _ANY_ADDRESS.get(host, host)
    port = own_port if port is None else port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
