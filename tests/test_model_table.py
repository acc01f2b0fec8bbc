"""The models of a server: where they lie, which one answers, and how one is exchanged."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from serving_apps import RED, MeanColour, app_of, error_of, files, make_predictor, until

from taxon.api.serving_models import is_model
from taxon.core.errors import CheckFailed, InputError
from taxon.inference import Predictor
from taxon.serving import ServingSettings, create_app
from taxon.serving.computing.local_engine import LocalEngine
from taxon.serving.models.places import Place, Places, find_places
from taxon.serving.models.served import Opened, UnknownModel
from taxon.serving.models.table import ModelTable


def made(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.json").write_text(text)
    return folder


class TestPlaces:
    def names(self, typed: str | Path) -> list[tuple[str | None, str | None, str]]:
        places = find_places(str(typed), is_model)
        return [(place.name, place.version, place.folder.name) for place in places]

    def test_folder_and_other_name(self, tmp_path: Path) -> None:
        run = made(tmp_path / "run")
        assert self.names(run) == [(None, None, "run")]
        assert self.names(f"shoes={run}") == [("shoes", None, "run")]

    def test_equals_sign_in_a_path(self, tmp_path: Path) -> None:
        assert self.names(made(tmp_path / "a=b")) == [(None, None, "a=b")]

    def test_pointers(self, tmp_path: Path) -> None:
        made(tmp_path / "runs" / "third")
        (tmp_path / "current.txt").write_text("runs/third\n")
        (tmp_path / "link").symlink_to(tmp_path / "runs" / "third")
        assert self.names(tmp_path / "current.txt") == [(None, None, "third")]
        assert self.names(tmp_path / "link") == [(None, None, "third")]

    def test_folder_of_several(self, tmp_path: Path) -> None:
        made(tmp_path / "shoes" / "1")
        made(tmp_path / "shoes" / "2")
        made(tmp_path / "hats")
        (tmp_path / "notes").mkdir()
        (tmp_path / "read.me").write_text("x")
        assert self.names(tmp_path) == [
            ("hats", None, "hats"),
            ("shoes", "1", "1"),
            ("shoes", "2", "2"),
        ]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "no model folder"),
            (b"", "the path of one model"),
            (b"a\nb", "in one line"),
            (b"\xff\xfe", "no text"),
            (b"nowhere", "no model folder"),
        ],
    )
    def test_nothing_there(self, tmp_path: Path, content: bytes | None, words: str) -> None:
        if content is not None:
            (tmp_path / "current").write_bytes(content)
        with pytest.raises(InputError, match=words):
            find_places(str(tmp_path / "current"), is_model)

    def test_empty_folder_and_empty_name(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no models"):
            find_places(str(tmp_path), is_model)
        with pytest.raises(InputError, match="names no model"):
            find_places(f"={tmp_path}", is_model)

    def test_stamp_changes_with_the_model(self, tmp_path: Path) -> None:
        run = made(tmp_path / "run")
        [before] = find_places(str(run), is_model)
        assert find_places(str(run), is_model) == [before]
        made(run, '{"other": 1}')
        [after] = find_places(str(run), is_model)
        assert after.stamp != before.stamp and after.key == before.key


class TestPlacesOverTime:
    """What cannot be looked at any more is what it was, with its fault."""

    @pytest.mark.parametrize("damage", ["nowhere", "", "\0" * 50, "current"])
    def test_pointer_that_breaks(self, tmp_path: Path, damage: str) -> None:
        made(tmp_path / "one")
        made(tmp_path / "two")
        pointer = tmp_path / "current"
        pointer.write_text("one")
        look = Places([str(pointer), str(tmp_path / "two")], is_model)
        whole = look()
        assert [place.folder.name for place in whole] == ["one", "two"]
        if damage == "current":
            pointer.unlink()
            pointer.symlink_to("current")  # it leads to itself
        else:
            pointer.write_text(damage)
        broken, other = look()
        assert broken.fault and broken.folder == whole[0].folder and broken.stamp != whole[0].stamp
        assert other == whole[1]
        pointer.unlink()
        pointer.write_text("one")
        assert look() == whole

    def test_what_never_was_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no model folder"):
            Places([str(tmp_path / "none")], is_model)()


class Shelf:
    """Models in folders, each a fake one whose fingerprint is the text of its bundle.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped: list[str] = []
        self.backends: dict[str, MeanColour] = {}

    def table(self, *typed: Path | str) -> ModelTable:
        def look() -> list[Place]:
            return [place for each in typed for place in find_places(str(each), is_model)]

        async def open_place(place: Place) -> Opened:
            text = (place.folder / "bundle.json").read_text()
            if text == "bad":
                raise CheckFailed("refused to serve: it answers otherwise")
            backend = self.backends.setdefault(text, MeanColour())
            spec = make_predictor().spec.model_copy(update={"fingerprint": text})
            engine = Engine(Predictor(spec, backend), self.stopped)
            await engine.start()
            return Opened(engine)

        return ModelTable(look, open_place)


class Engine(LocalEngine):
    """Tells when it is closed."""

    def __init__(self, predictor: Predictor, stopped: list[str]) -> None:
        super().__init__(predictor, ServingSettings(max_batch_size=1))
        self._stopped = stopped

    async def stop(self) -> None:
        await super().stop()
        self._stopped.append(self.description.spec.fingerprint)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def run(table: ModelTable, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        app = create_app(table, ServingSettings(reload_by_request=True))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            await work(client)

    asyncio.run(main())


async def classify(client: httpx.AsyncClient, **query: str) -> httpx.Response:
    return await client.post("/v1/classify", params=query, files=files(("r", RED)))


class TestSeveral:
    def test_by_name_and_version(self, shelf: Shelf, tmp_path: Path) -> None:
        for place in ("a/9", "a/10", "b"):
            made(tmp_path / place, place.replace("/", "-"))

        async def work(client: httpx.AsyncClient) -> None:
            assert "name one of them" in error_of(await classify(client), 404)
            assert "no version '11'" in error_of(
                await classify(client, model="a", version="11"), 404
            )
            for query, expected in (
                ({"model": "a"}, "a-10"),  # the newest by number
                ({"model": "a", "version": "9"}, "a-9"),
                ({"model": "b"}, "b"),
            ):
                answer = (await classify(client, **query)).json()
                assert answer["model"]["fingerprint"] == expected
            models = (await client.get("/v1/models")).json()["models"]
            assert [(each["name"], each["version"]) for each in models] == [
                ("a", "10"),
                ("a", "9"),
                ("b", "b"),
            ]
            metadata = (await client.get("/v2/models/a")).json()
            assert metadata["versions"] == ["10", "9"]
            index = (await client.post("/v2/repository/index")).json()
            assert [entry["state"] for entry in index] == ["READY"] * 3
            lines = (await client.get("/metrics")).text.splitlines()
            served = [line for line in lines if line.startswith("taxon_model_info{")]
            for version in ("9", "10"):
                (line,) = (line for line in served if f'version="{version}"' in line)
                assert f'fingerprint="a-{version}"' in line and 'model="a"' in line

        run(shelf.table(tmp_path), work)
        assert sorted(shelf.stopped) == ["a-10", "a-9", "b"]

    def test_two_of_one_name(self, shelf: Shelf, tmp_path: Path) -> None:
        one, two = made(tmp_path / "one", "same"), made(tmp_path / "two", "same")

        async def main() -> None:
            table = shelf.table(one, two)
            with pytest.raises(InputError, match="give one another name: NAME="):
                await table.start()
            await table.stop()

        asyncio.run(main())
        assert shelf.stopped == ["same", "same"]


class TestExchange:
    def test_old_one_finishes_what_it_began(self, shelf: Shelf, tmp_path: Path) -> None:
        made(tmp_path / "1", "old")
        made(tmp_path / "2", "new")
        pointer = tmp_path / "current"
        pointer.write_text("1")

        async def work(client: httpx.AsyncClient) -> None:
            backend = shelf.backends["old"]
            backend.gate, begun = threading.Event(), len(backend.batches)
            first = asyncio.create_task(classify(client))
            await until(lambda: len(backend.batches) > begun)
            pointer.write_text("2")
            await table.refresh()
            assert shelf.stopped == []  # a request holds it
            second = (await classify(client)).json()
            assert second["model"]["fingerprint"] == "new"
            backend.gate.set()
            assert (await first).json()["model"]["fingerprint"] == "old"
            await until(lambda: shelf.stopped == ["old"])

        table = shelf.table(pointer)
        run(table, work)
        assert shelf.stopped == ["old", "new"]

    def test_a_bad_one_is_refused_and_the_old_one_serves_on(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        place = made(tmp_path / "model", "good")

        async def work(client: httpx.AsyncClient) -> None:
            made(place, "bad")
            answer = await client.post("/v2/repository/models/colours/load")
            text = error_of(answer, 400)
            assert "refused" in text and str(tmp_path) not in text
            assert (await classify(client)).json()["model"]["fingerprint"] == "good"
            [ready, refused] = (await client.post("/v2/repository/index")).json()
            assert ready["state"] == "READY" and refused["state"] == "UNAVAILABLE"
            assert "taxon_models_refused 1.0" in (await client.get("/metrics")).text
            made(place, "better")
            answer = await client.post("/v2/repository/models/colours/load")
            assert answer.status_code == 200
            assert (await classify(client)).json()["model"]["fingerprint"] == "better"
            assert "taxon_models_refused 0.0" in (await client.get("/metrics")).text

        run(shelf.table(place), work)

    def test_a_named_load_goes_on_past_a_bad_version(self, shelf: Shelf, tmp_path: Path) -> None:
        made(tmp_path / "m" / "1", "one")

        async def work(client: httpx.AsyncClient) -> None:
            made(tmp_path / "m" / "1", "bad")
            made(tmp_path / "m" / "2", "two")
            answer = await client.post("/v2/repository/models/m/load")
            assert "refused" in error_of(answer, 400)
            for version, expected in (("1", "one"), ("2", "two")):
                answer = await classify(client, model="m", version=version)
                assert answer.json()["model"]["fingerprint"] == expected

        run(shelf.table(tmp_path), work)

    def test_watching_finds_what_changed(self, shelf: Shelf, tmp_path: Path) -> None:
        made(tmp_path / "models" / "a", "a")

        async def main() -> None:
            table = shelf.table(tmp_path / "models")
            await table.start()
            watching = asyncio.create_task(table.watch())
            await asyncio.sleep(0)
            made(tmp_path / "models" / "b", "b")
            shutil.rmtree(tmp_path / "models" / "a")
            async with asyncio.timeout(10):
                while [model.name for model in table] != ["b"]:
                    await asyncio.sleep(0.02)
            made(tmp_path / "models" / "b", "bad")  # refused, and not tried again and again
            async with asyncio.timeout(10):
                while "b" not in table.refused:
                    await asyncio.sleep(0.02)
            assert [model.spec.fingerprint for model in table] == ["b"]
            watching.cancel()
            await table.stop()

        asyncio.run(main())

    def test_a_pointer_astray_is_told_until_it_leads_back(
        self, shelf: Shelf, tmp_path: Path
    ) -> None:
        made(tmp_path / "good", "good")
        made(tmp_path / "bad", "bad")
        pointer = tmp_path / "current"
        pointer.write_text("good")
        table = shelf.table(pointer)

        async def refused(client: httpx.AsyncClient, count: int) -> None:
            async with asyncio.timeout(10):
                while f"taxon_models_refused {count}.0" not in (await client.get("/metrics")).text:
                    await asyncio.sleep(0.02)
            assert (await classify(client)).json()["model"]["fingerprint"] == "good"

        async def work(client: httpx.AsyncClient) -> None:
            watching = asyncio.create_task(table.watch())
            await asyncio.sleep(0)
            for astray in ("nowhere", "bad"):
                pointer.write_text(astray)
                table.look_again()
                await refused(client, 1)
                pointer.write_text("good")
                table.look_again()
                await refused(client, 0)
            watching.cancel()

        run(table, work)

    def test_unload_and_load(self, shelf: Shelf, tmp_path: Path) -> None:
        place = made(tmp_path / "folder", "one")

        async def work(client: httpx.AsyncClient) -> None:
            base = "/v2/repository/models"
            assert (await client.post(f"{base}/colours/unload")).status_code == 200
            assert error_of(await classify(client, model="colours"), 404)
            assert (await client.get("/v2/health/ready")).status_code == 503
            assert error_of(await client.post(f"{base}/colours/unload"), 404)
            await table.refresh()  # as another model's change or SIGHUP does
            assert error_of(await classify(client, model="colours"), 404)
            assert (await client.post(f"{base}/colours/load")).status_code == 200
            assert (await classify(client)).status_code == 200
            text = error_of(await client.post(f"{base}/..%2f..%2fetc/load"), 404)
            assert "there is no" in text or "Not Found" in text

        table = shelf.table(place)
        run(table, work)

    def test_not_by_strangers(self) -> None:
        async def main() -> None:
            app = app_of(make_predictor())
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://t") as client,
            ):
                for what in ("load", "unload"):
                    answer = await client.post(f"/v2/repository/models/colours/{what}")
                    assert "--reload-by-request" in error_of(answer, 403)
                assert (await classify(client)).status_code == 200

        asyncio.run(main())


def test_unknown_before_start(shelf: Shelf, tmp_path: Path) -> None:
    table = shelf.table(made(tmp_path / "a"))
    assert not table.ready
    with pytest.raises(UnknownModel):
        table.find("a")
