"""The image and the manifests: by the schemas of what reads them, and against the server itself.

No container is built or run here: what the Dockerfile says is held against the project.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from commands import fails, taxon
from kserve_schema import kserve_schema
from packaging.requirements import Requirement

from taxon.cli.main import app as cli
from taxon.serving import ServingSettings, create_app
from taxon.serving.http.security import OPEN_PATHS
from taxon.serving.metrics import ServerMetrics
from taxon.serving.models.table import ModelTable

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
OLDEST, NEWEST = "1.30", "1.37"  # 1.30 is the first that sleeps in preStop by itself
KSERVE = {
    "serving-runtime.yaml": "V1alpha1ServingRuntime",
    "inference-service.yaml": "V1beta1InferenceService",
}
# What uvicorn and grpc import where it is there; extras bring it here.
_WHERE_INSTALLED = ("watchfiles", "grpc_reflection")
# Resources of others, which Kubernetes' own schema does not have.
FOREIGN = ("kustomization.yaml", "service-monitor.yaml")


def _load(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8")))


def _one(path: str, kind: str) -> dict[str, Any]:
    (found,) = (resource for resource in _load(path) if resource["kind"] == kind)
    return found


def _kubernetes() -> list[str]:
    return sorted(path.name for path in (DEPLOY / "kubernetes").glob("*.yaml"))


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    """The Deployment."""
    return _one("kubernetes/deployment.yaml", "Deployment")


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, in order."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in joined]


def _last_stage(instructions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    start = max(at for at, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[start:]


def _value(instructions: list[tuple[str, str]], name: str) -> str:
    (value,) = (rest for each, rest in _last_stage(instructions) if each == name)
    return value


# The image


def test_the_last_stage_runs_as_a_numbered_user_and_without_a_shell(
    dockerfile: list[tuple[str, str]],
) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", _value(dockerfile, "USER"))
    assert json.loads(_value(dockerfile, "ENTRYPOINT"))[:2] == ["taxon", "serve"]
    assert not any(name == "RUN" for name, _ in _last_stage(dockerfile))  # nothing is installed


def test_what_is_copied_is_there_and_is_let_through(dockerfile: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for name, rest in dockerfile
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_the_version_on_the_label_is_that_of_the_project(dockerfile: list[tuple[str, str]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ("ARG", f"VERSION={project['version']}") in _last_stage(dockerfile)
    assert _one("kubernetes/kustomization.yaml", "Kustomization")["images"] == [
        {
            "name": "taxon-serve",
            "newName": "registry.example.org/taxon-serve",
            "newTag": project["version"],
        }
    ]


def test_the_health_check_asks_for_what_the_server_answers(
    dockerfile: list[tuple[str, str]],
) -> None:
    words = json.loads(_value(dockerfile, "HEALTHCHECK").partition("CMD ")[2])
    assert words[:2] == ["python", "-c"]
    compile(words[2], "health check", "exec")
    (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", words[2])
    assert url == (_value(dockerfile, "EXPOSE"), "/v2/health/ready")
    assert url[0] == _option(json.loads(_value(dockerfile, "ENTRYPOINT")), "--port")


def _extras(dockerfile: list[tuple[str, str]], wanted: str) -> subprocess.CompletedProcess[str]:
    """Run what the image's build runs to learn what extras need."""
    (line,) = (rest for name, rest in dockerfile if name == "RUN" and "tomllib" in rest)
    words = shlex.split(line)
    assert words[:2] == ["python", "-c"]
    assert words[3:] == ["$EXTRAS", ">", "requirements/extras.txt"]
    return subprocess.run(
        [sys.executable, "-c", words[2], wanted], cwd=ROOT, capture_output=True, text=True
    )


def test_extras_of_the_image_are_those_of_the_project(dockerfile: list[tuple[str, str]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert ("ARG", "EXTRAS=") in dockerfile
    assert _extras(dockerfile, "").stdout.strip() == ""
    assert _extras(dockerfile, "grpc").stdout.splitlines() == extras["grpc"]
    both = _extras(dockerfile, "grpc,heic")
    assert both.stdout.splitlines() == [*extras["grpc"], *extras["heic"]]
    unknown = _extras(dockerfile, "gprc")
    assert unknown.returncode != 0 and "gprc" in unknown.stderr  # the build ends, and says why
    (pip,) = (rest for name, rest in dockerfile if name == "RUN" and "constraint" in rest)
    assert "--requirement requirements/extras.txt" in pip


def test_grpc_imports_only_what_its_extra_brings(dockerfile: list[tuple[str, str]]) -> None:
    serve = (ROOT / "requirements" / "serve.txt").read_text().splitlines()
    grpc = _extras(dockerfile, "grpc").stdout.splitlines()
    wanted = [Requirement(line) for line in (*serve, *grpc) if line and not line.startswith("#")]
    foreign = _imported("import taxon.cli.serve, taxon.api.serving, taxon.serving.grpc")
    brought = _closure(each.name for each in wanted)
    assert "grpc" in foreign and "torch" not in brought
    assert {module for module, names in foreign.items() if not names & brought} == set()


def test_the_server_imports_only_what_the_image_installs() -> None:
    """Each module that is not Python's or ours belongs to what requirements/serve.txt brings."""
    lines = (ROOT / "requirements" / "serve.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {str(each) for each in wanted} <= {
        str(Requirement(line)) for line in project["dependencies"]
    }
    brought = _closure(each.name for each in wanted)
    assert "torch" not in brought

    foreign = _imported("import taxon.cli.serve, taxon.api.serving, uvloop, httptools")
    assert "onnxruntime" in foreign and "prometheus_client" in foreign
    assert {module for module, names in foreign.items() if not names & brought} == set()


def _imported(statement: str) -> dict[str, set[str]]:
    """The modules of others that an import brings, with the distributions that have them."""
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            # Without what the environment starts every Python with.
            f"import sys; before = set(sys.modules); {statement}; "
            "after = {name for name, module in sys.modules.items() if module}; "
            "print(*{name.partition('.')[0] for name in after - before})",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    owners = packages_distributions()
    return {
        module: {_normal(owner) for owner in owners[module]}
        for module in done.stdout.split()
        if module in owners and module not in ("taxon", *_WHERE_INSTALLED)
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _closure(names: Iterator[str]) -> set[str]:
    """Distributions, and all that they require."""
    found: set[str] = set()
    left = [_normal(name) for name in names]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        needs = (Requirement(line) for line in requires(name) or ())
        left += [_normal(each.name) for each in needs if not each.marker or each.marker.evaluate()]
    return found


# The options that are given


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def _commands() -> Iterator[tuple[str, list[str]]]:
    """The words after the entry point, wherever a container is started."""
    yield (
        "compose",
        yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["taxon"]["command"],
    )
    (container,) = _one("kubernetes/deployment.yaml", "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    yield "kubernetes", container["args"]
    (container,) = _one("kserve/serving-runtime.yaml", "ServingRuntime")["spec"]["containers"]
    yield "kserve", container["args"]


@pytest.mark.parametrize(("where", "words"), list(_commands()))
def test_taxon_serve_knows_the_options(
    where: str, words: list[str], dockerfile: list[tuple[str, str]]
) -> None:
    entry = json.loads(_value(dockerfile, "ENTRYPOINT"))
    command = typer.main.get_command(cli)
    serve = command.commands["serve"]  # type: ignore[attr-defined]
    values, _, _ = serve.make_parser(serve.make_context("serve", ["x"])).parse_args(
        [*entry[2:], *words]
    )
    assert values["host"] == "0.0.0.0" and values["log_format"] == "json"
    assert values["port"] == ("8080" if where == "kserve" else _option(entry, "--port"))
    assert all("{{" in run or "/" in run for run in values["runs"])


def test_the_guide_gives_options_and_metrics_that_there_are() -> None:
    text = (ROOT / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")
    serve = typer.main.get_command(cli).commands["serve"]  # type: ignore[attr-defined]
    known = {name for each in serve.params for name in each.opts}
    lines = text.replace("\\\n", " ").splitlines()
    runs = [line.partition(" taxon-serve")[2] for line in lines if line.startswith("docker run")]
    given = {word for run in runs for word in shlex.split(run) if word.startswith("--")}
    assert given and given <= known

    metrics = ServerMetrics()
    metrics.watch_table(ModelTable(list, _never))
    measured = {family.name for family in metrics.registry.collect()}
    named = set(re.findall(r"\btaxon_\w+", text))
    assert named
    assert {re.sub(r"_(total|bucket)$", "", name) for name in named} <= measured


# The manifests, by their schemas


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", [name for name in _kubernetes() if name not in FOREIGN])
def test_manifests_fit_the_schema_of_kubernetes(name: str, version: str) -> None:
    resources = _load(f"kubernetes/{name}")
    assert resources
    for resource in resources:
        assert kubernetes_validate.validate(resource, version, strict=True) == version


def test_a_misspelt_key_is_found(deployment: dict[str, Any]) -> None:
    text = json.dumps(deployment).replace("readinessProbe", "readynessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(json.loads(text), NEWEST, strict=True)


@pytest.mark.parametrize("name", KSERVE)
def test_manifests_fit_the_types_of_kserve(name: str) -> None:
    (resource,) = _load(f"kserve/{name}")
    schema = jsonschema.Draft202012Validator(kserve_schema(KSERVE[name], NEWEST))
    schema.validate(resource)
    for key, other in (
        ("spec", "specs"),
        ("protocolVersion", "protokollVersion"),
        ("minReplicas", "smallest"),
        ("containerPort", "containerport"),
    ):
        text = json.dumps(resource).replace(key, other)
        if text != json.dumps(resource):
            assert not schema.is_valid(json.loads(text)), key


# The manifests, against each other and against the server


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "deployment",
        _one("kubernetes/deployment.yaml", "Deployment")["spec"]["template"]["spec"],
    )
    yield "loader", _one("kubernetes/loader.yaml", "Pod")["spec"]
    yield "kserve", _one("kserve/serving-runtime.yaml", "ServingRuntime")["spec"]


@pytest.mark.parametrize(("name", "pod"), list(_pods()))
def test_pods_may_do_nothing_that_they_need_not(
    name: str, pod: dict[str, Any], dockerfile: list[tuple[str, str]]
) -> None:
    (container,) = pod["containers"]
    allowed = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert allowed["runAsNonRoot"] is True
    assert allowed["runAsUser"] == int(_value(dockerfile, "USER").partition(":")[0])
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert allowed["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"]["limits"]["memory"]


def test_compose_may_do_nothing_that_it_needs_not(dockerfile: list[tuple[str, str]]) -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = document["services"]["taxon"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert service["ports"] == [f"127.0.0.1:8000:{_value(dockerfile, 'EXPOSE')}"]
    assert service["secrets"] == list(document["secrets"])
    assert _option(service["command"], "--api-key-file") == "/run/secrets/api-keys"
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert int(service["stop_grace_period"].removesuffix("s")) > ServingSettings().shutdown_seconds


@pytest.mark.parametrize("name", ["deployment", "kserve"])
def test_probes_ask_for_what_the_server_answers_without_a_key(name: str) -> None:
    (container,) = dict(_pods())[name]["containers"]
    (port,) = container["ports"]
    probes = {key: value["httpGet"] for key, value in container.items() if key.endswith("Probe")}
    assert {"readinessProbe", "livenessProbe"} <= set(probes)
    paths = _paths()
    for probe in probes.values():
        assert probe["path"] in paths and probe["path"] in OPEN_PATHS
        assert probe["port"] in (port["name"], port["containerPort"])
    assert probes["livenessProbe"]["path"] != probes["readinessProbe"]["path"]


@cache
def _paths() -> set[str]:
    return set(create_app(ModelTable(list, _never)).openapi()["paths"])


async def _never(_: object) -> Any:
    raise AssertionError("no model is opened")


def test_a_pod_has_time_to_finish(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = ServingSettings().shutdown_seconds
    assert pod["terminationGracePeriodSeconds"] > pause + drain
    predictor = _one("kserve/inference-service.yaml", "InferenceService")["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] > drain


def test_manifests_mean_each_other(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    service = _one("kubernetes/service.yaml", "Service")
    assert service["spec"]["selector"] == labels
    for file, kind, key in (
        ("disruption-budget", "PodDisruptionBudget", "selector"),
        ("network-policy", "NetworkPolicy", "podSelector"),
    ):
        assert _one(f"kubernetes/{file}.yaml", kind)["spec"][key] == {"matchLabels": labels}
    target = _one("kubernetes/autoscaler.yaml", "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    monitor = _one("kubernetes/service-monitor.yaml", "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert endpoint["path"] in _paths()


def test_volumes_hold_what_the_arguments_name(deployment: dict[str, Any]) -> None:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) == set(volumes)
    claim = _one("kubernetes/models.yaml", "PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    pointer = _one("kubernetes/models.yaml", "ConfigMap")
    assert volumes["current"]["configMap"]["name"] == pointer["metadata"]["name"]
    (key,) = pointer["data"]
    assert container["args"][0] == f"{key}={mounts['current']}/{key}"
    assert pointer["data"][key].startswith(f"{mounts['models']}/")
    (item,) = volumes["keys"]["secret"]["items"]
    assert _option(container["args"], "--api-key-file") == f"{mounts['keys']}/{item['path']}"
    # The loader writes what the others read.
    loader = _one("kubernetes/loader.yaml", "Pod")["spec"]
    assert loader["volumes"] == [volumes["models"]]
    predictor = _one("kserve/inference-service.yaml", "InferenceService")["spec"]["predictor"]
    assert predictor["model"]["storageUri"].startswith(f"pvc://{claim}/")


def test_kserve_finds_the_runtime() -> None:
    runtime = _one("kserve/serving-runtime.yaml", "ServingRuntime")
    model = _one("kserve/inference-service.yaml", "InferenceService")["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = runtime["spec"]["supportedModelFormats"]
    assert model["modelFormat"] in [
        {key: each[key] for key in ("name", "version")} for each in formats
    ]
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"  # the name by which KServe knows it
    assert container["ports"][0]["name"] == "http1"  # Knative takes the protocol from it
    image = _one("kubernetes/kustomization.yaml", "Kustomization")["images"][0]
    assert container["image"] == f"{image['newName']}:{image['newTag']}"


def test_the_command_writes_the_same_manifests(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "kserve.yaml"
    where = ("--storage-uri", "pvc://taxon-models/inspector-1")
    done = taxon("deploy", "kserve", run, "--name", "inspector", *where, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"kubectl apply --filename {out}" in done.stdout
    written = list(yaml.safe_load_all(out.read_text()))
    assert written == [each for name in KSERVE for each in _load(f"kserve/{name}")]
    other = taxon(
        *("deploy", "kserve", run, "--storage-uri", "s3://models/a", "--image", "here/serve:1"),
        *("--cpus", "500m", "--memory", "1Gi", "--min-replicas", "1", "--max-replicas", "3"),
        *("--target-cpu", "50"),
    )
    runtime, service = yaml.safe_load_all(other.stdout)
    for name, resource in zip(KSERVE.values(), (runtime, service), strict=True):
        jsonschema.Draft202012Validator(kserve_schema(name, NEWEST)).validate(resource)
    assert runtime["spec"]["containers"][0]["image"] == "here/serve:1"
    assert service["metadata"]["name"] == run.name
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 3)
    assert predictor["scaleTarget"] == 50
    assert predictor["model"]["storageUri"] == "s3://models/a"
    asked = {"cpu": "500m", "memory": "1Gi"}
    assert predictor["model"]["resources"] == {"requests": asked, "limits": asked}


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--storage-uri", "models/a"], "--storage-uri is 'models/a'"),
        (["--storage-uri", "s3://a", "--name", "My model"], "no name for Kubernetes"),
        (["--storage-uri", "s3://a", "--memory", "1 GB"], "--memory is '1 GB'"),
        (["--storage-uri", "s3://a", "--min-replicas", "11"], "--max-replicas 10"),
        (["--storage-uri", "s3://a", "--target-cpu", "0"], "--target-cpu is 0"),
        ([], "missing option '--storage-uri'"),
    ],
)
def test_manifests_that_kubernetes_would_refuse_are_not_written(
    run: Path, options: list[str], saying: str
) -> None:
    fails(2, "deploy", "kserve", run, *options, saying=saying)


def test_kustomize_lists_every_manifest_but_the_optional_ones() -> None:
    listed = _one("kubernetes/kustomization.yaml", "Kustomization")["resources"]
    optional = {"kustomization.yaml", "loader.yaml", "service-monitor.yaml"}
    assert sorted(listed) == sorted(set(_kubernetes()) - optional)
