"""The Open Inference Protocol V2 over gRPC, beside the HTTP server and in its event loop.

Needs `taxon-vision[grpc]`; imported only where it is asked for.
"""

from taxon.core.errors import MissingDependencyError
from taxon.core.versions import DISTRIBUTION

try:
    from taxon.serving.grpc.server import GrpcServer
except ImportError as error:
    raise MissingDependencyError(
        f"serving gRPC needs grpcio and protobuf, which do not import ({error}); "
        f"type: pip install '{DISTRIBUTION}[grpc]'"
    ) from error

__all__ = ["GrpcServer"]
