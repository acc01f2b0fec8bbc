"""The manifests of KServe: how it runs a folder that `taxon train` wrote, and one such folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from taxon.core.errors import ConfigError
from taxon.core.versions import taxon_version
from taxon.serving.settings import ServingSettings

_PORT = 8080  # where KServe expects a container to listen
_USER = 10001  # of the image
_RUNTIME = "taxon"
_FORMAT = {"name": "taxon", "version": "1"}
_FOR_CLOSING = 15  # seconds that a pod has beside those for its last answers
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # of Kubernetes' services
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGT]i?)?")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://\S+")


@dataclass(frozen=True)
class Inference:
    """A model that KServe is to serve.

    Attributes:
        name: of the InferenceService, and of the model.
        storage_uri: where the model folder lies, as KServe's storage initializer reads it:
            `pvc://CLAIM/PATH`, `s3://`, `gs://`, `hf://`.
        image: of the server; its own registry and version.
        cpu, memory: of a pod, in Kubernetes' quantities.
        least, most: pods.
        utilisation: of the processor in per cent, above which pods are added.

    Raises:
        ConfigError: a value that Kubernetes would refuse.
    """

    name: str
    storage_uri: str
    image: str = ""
    cpu: str = "2"
    memory: str = "1536Mi"
    least: int = 2
    most: int = 10
    utilisation: int = 70

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"'{self.name}' is no name for Kubernetes: small letters, digits and '-', at most "
                "63, a letter first; give one with --name"
            )
        if not _URI.fullmatch(self.storage_uri):
            raise ConfigError(
                f"--storage-uri is '{self.storage_uri}'; it is where the cluster finds the model "
                "folder, say pvc://taxon-models/inspector-1 or s3://bucket/inspector-1"
            )
        for option, value in (("--cpus", self.cpu), ("--memory", self.memory)):
            if not _QUANTITY.fullmatch(value):
                raise ConfigError(f"{option} is '{value}'; write it as Kubernetes does: 2, 1536Mi")
        if not 1 <= self.least <= self.most:
            raise ConfigError(
                f"--min-replicas is {self.least} and --max-replicas {self.most}; at least 1, and "
                "the second not below the first"
            )
        if not 1 <= self.utilisation <= 100:
            raise ConfigError(f"--target-cpu is {self.utilisation}; a percentage of 1 to 100")


def default_image() -> str:
    """The image by the name that the guide gives it: a registry must be put before it."""
    return f"registry.example.org/taxon-serve:{taxon_version()}"


def serving_runtime(image: str = "") -> dict[str, Any]:
    """Return the ServingRuntime: one for all models of a namespace."""
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": _RUNTIME},
        "spec": {
            "annotations": {
                "prometheus.kserve.io/port": str(_PORT),
                "prometheus.kserve.io/path": "/metrics",
            },
            "supportedModelFormats": [{**_FORMAT, "autoSelect": True}],
            "protocolVersions": ["v2"],
            "multiModel": False,
            "containers": [_container(image or default_image())],
        },
    }


def inference_service(model: Inference) -> dict[str, Any]:
    """Return the InferenceService of a model."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": model.name,
            # Plain Deployments; `RawDeployment` before KServe 0.16.
            "annotations": {"serving.kserve.io/deploymentMode": "Standard"},
        },
        "spec": {
            "predictor": {
                "minReplicas": model.least,
                "maxReplicas": model.most,
                "scaleMetric": "cpu",
                "scaleTarget": model.utilisation,
                "terminationGracePeriodSeconds": ServingSettings().shutdown_seconds + _FOR_CLOSING,
                "model": {
                    "modelFormat": dict(_FORMAT),
                    "runtime": _RUNTIME,
                    "protocolVersion": "v2",
                    "storageUri": model.storage_uri,
                    "resources": _resources(model.cpu, model.memory),
                },
            }
        },
    }


def _container(image: str) -> dict[str, Any]:
    return {
        "name": "kserve-container",  # the name by which KServe knows it
        "image": image,
        # The name of the InferenceService is that of the model: /v2/models/NAME/infer.
        "args": ["{{.Name}}=/mnt/models", "--port", str(_PORT)],
        "ports": [{"name": "http1", "containerPort": _PORT, "protocol": "TCP"}],
        "resources": _resources(Inference.cpu, Inference.memory),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": _PORT},
            "periodSeconds": 5,
            "timeoutSeconds": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": _PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
    }


def _resources(cpu: str, memory: str) -> dict[str, dict[str, str]]:
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": cpu, "memory": memory},
    }
