"""`taxon deploy`: the files that are written, and what a replica of Ray Serve is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from commands import fails, taxon
from serving_apps import RED, app_of, files, make_predictor
from starlette.testclient import TestClient
from uvicorn import Config
from uvicorn.lifespan.on import LifespanOn

from taxon.api.ray_serving import application
from taxon.core.errors import BundleError, ConfigError
from taxon.scale.serving import Mounted, NotReady, Replica
from taxon.serving import ServingSettings
from taxon.serving.metrics import ServerMetrics

KEY = "a key of the tests, long enough"


def _config(*arguments: str | Path) -> dict[str, Any]:
    done = taxon("deploy", "ray", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))


def _free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


# The config


def test_the_config_fits_the_schema_of_ray(run: Path, tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    keys = tmp_path / "keys.txt"
    keys.write_text(KEY)
    document = _config(
        *(run, "--name", "inspector", "--min-replicas", "2", "--max-replicas", "6"),
        *("--cpus", "3", "--gpus", "0.5", "--host", "0.0.0.0", "--port", "9000"),
        *("--route-prefix", "/defects", "--api-key-file", keys, "--timeout-ms", "5000"),
        *("--max-queue", "64"),
    )
    schema = ServeDeploySchema.model_validate(document)
    assert (schema.http_options.host, schema.http_options.port) == ("0.0.0.0", 9000)
    assert schema.http_options.request_timeout_s == 15
    (app,) = schema.applications
    assert (app.name, app.route_prefix) == ("inspector", "/defects")
    assert app.args == {
        "models": [f"inspector={run}"],
        "api_key_file": str(keys),
        "settings": {"timeout_ms": 5000, "max_queue": 64},
    }
    (deployment,) = app.deployments
    assert deployment.ray_actor_options.num_cpus == 3
    assert deployment.ray_actor_options.num_gpus == 0.5
    assert deployment.autoscaling_config is not None
    growing = dict(deployment.autoscaling_config)
    assert (growing["min_replicas"], growing["max_replicas"]) == (2, 6)
    assert growing["target_ongoing_requests"] == 12
    assert deployment.max_ongoing_requests == 64
    assert deployment.graceful_shutdown_timeout_s > ServingSettings().shutdown_seconds
    # Ray finds under the path what it calls with the args.
    built = application(app.args)
    assert built._bound_deployment.name == deployment.name
    assert KEY not in yaml.safe_dump(document)


def test_the_config_listens_on_this_machine_alone_unless_told(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    done = taxon("deploy", "ray", run, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"serve run {out}" in done.stdout and str(run) in done.stdout
    document = yaml.safe_load(out.read_text())
    assert document["http_options"]["host"] == "127.0.0.1"
    assert "runtime_env" not in document["applications"][0]
    fails(2, "deploy", "ray", run, "--out", out, saying="--overwrite")
    assert taxon("deploy", "ray", run, "--out", out, "--overwrite").returncode == 0


def test_a_pointer_and_a_folder_of_models_are_left_to_the_replicas(
    run: Path, tmp_path: Path
) -> None:
    pointer = tmp_path / "current.txt"
    pointer.write_text(str(run))
    (app,) = _config(pointer)["applications"]
    assert (app["name"], app["args"]) == (run.name, {"models": [str(pointer)]})
    models = tmp_path / "models"
    for name in ("a", "b"):
        (models / name).mkdir(parents=True)
        (models / name / "1").symlink_to(run)
    (app,) = _config(models)["applications"]
    assert (app["name"], app["args"]) == ("models", {"models": [str(models)]})


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--min-replicas", "3", "--max-replicas", "2"], "--max-replicas is 2, below"),
        (["--cpus", "0"], "--cpus is 0; it must be at least 1"),
        (["--route-prefix", "defects"], "begins with /"),
        (["--backend", "openvino-int8"], "has no artefact 'openvino-int8'"),
        (["--device", "cuda"], "--backend torch"),
        (["--max-queue", "4"], "below max_batch_size"),
        (["--api-key-file", "absent.txt"], "cannot read the keys"),
    ],
)
def test_what_cannot_be_is_said_before_a_cluster_is(
    run: Path, options: list[str], saying: str
) -> None:
    fails(2, "deploy", "ray", run, *options, saying=saying)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    fails(2, "deploy", "ray", tmp_path, saying="holds no models")
    fails(2, "deploy", "ray", tmp_path / "no", saying="is no model folder")
    fails(2, "deploy", "kserve", tmp_path, "--storage-uri", "s3://b/m", saying="there is no model")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"models": []}, {"models": ["x"], "model": 1}, {"models": ["x"], "settings": {"que": 1}}],
)
def test_args_that_somebody_changed_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        application(wrong)


# A replica, without Ray


def test_under_a_prefix_paths_are_as_ever() -> None:
    settings = ServingSettings(api_keys=(KEY,))
    app = app_of(make_predictor(), settings=settings)
    mounted = Mounted(app, _nothing)
    # Ray's proxy leaves the prefix in the path, and names it.
    with TestClient(app), TestClient(mounted, root_path="/defects") as client:
        assert client.get("/defects/v2/health/ready").status_code == 200
        assert client.get("/defects").status_code == client.get("/defects/docs").status_code == 200
        refused = client.post("/defects/v1/classify", files=files(("red.png", RED)))
        assert refused.status_code == 401
        answer = client.post(
            "/defects/v1/classify", files=files(("red.png", RED)), headers={"x-api-key": KEY}
        )
        assert answer.json()["results"][0]["label"] == "red"
        assert "x-request-id" not in answer.headers  # Ray's proxy says it
        metrics = client.get("/defects/metrics", headers={"x-api-key": KEY}).text
        assert 'route="/v1/classify"' in metrics and "/defects" not in metrics


async def _nothing() -> None:
    """Close nothing."""


def test_a_replica_is_healthy_until_it_has_stopped() -> None:
    async def main() -> None:
        replica = Replica(lambda: app_of(make_predictor()))
        app = await replica.__serve_build_asgi_app__()
        replica.check_health()
        lifespan = LifespanOn(Config(app, log_config=None))  # as Ray runs it
        await lifespan.startup()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            answer = await client.post("/v1/classify", files=files(("red.png", RED)))
            assert answer.json()["results"][0]["label"] == "red"
        await lifespan.shutdown()
        with pytest.raises(NotReady):
            replica.check_health()

    asyncio.run(main())


def test_a_replica_of_a_damaged_model_does_not_begin(
    run: Path, copy_of: Callable[[Path], Path]
) -> None:
    from taxon.api.serving import model_table
    from taxon.api.serving_models import BackendChoice
    from taxon.serving import create_app

    bad = copy_of(run)
    golden = next(bad.glob("golden/*.png"))
    golden.write_bytes(RED)

    async def main() -> None:
        table = model_table([str(bad)], BackendChoice(threads=1), ServingSettings())
        with pytest.raises(BundleError, match="golden"):
            await Replica(lambda: create_app(table)).__serve_build_asgi_app__()

    asyncio.run(main())


def test_metrics_bear_the_labels_that_are_given() -> None:
    metrics = ServerMetrics({"replica": "a"})
    metrics.answered("/v1/classify", 200, 0.1)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert samples and all(sample.labels["replica"] == "a" for sample in samples)
    assert {"route": "/v1/classify", "status": "200", "replica": "a"} in [
        sample.labels for sample in samples
    ]
