"""A client of the server, for Python: one that waits and one for asyncio."""

from taxon.client.asynchronous import AsyncClient
from taxon.client.requests import Patience, ServerError
from taxon.client.synchronous import Client

__all__ = ["AsyncClient", "Client", "Patience", "ServerError"]
