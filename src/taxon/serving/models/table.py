"""The models that a server has: by name and version, exchanged without a lost or mixed answer.

A request takes its model once and holds it to its answer. An exchange opens the new one beside the
old one, points the name at it, and closes the old one when its last request was answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from taxon.core.errors import BundleError, InputError, TaxonError, reason_of
from taxon.serving.computing.errors import Overloaded
from taxon.serving.models.drift import DriftMonitor
from taxon.serving.models.places import Place, contents_stamp
from taxon.serving.models.served import Opened, Served, UnknownModel

_log = logging.getLogger("taxon.serving")
_SECONDS = 1.0  # between two looks for changed places
_VERSION_DIGITS = 8  # of the fingerprint, where the folder names no version

Stamps = dict[tuple[Path, str | None, str | None], str]  # by a place's key


class ModelTable:
    """The models of a server.

    Args:
        look: gives the places of all models as they are now.
        open_place: opens the model at a place, checks it and starts its engine; raises a
            `TaxonError` where it may not be served.
    """

    def __init__(
        self,
        look: Callable[[], list[Place]],
        open_place: Callable[[Place], Awaitable[Opened]],
    ) -> None:
        self._look = look
        self._open = open_place
        self._served: dict[str, dict[str, Served]] = {}
        self._changing = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._called: dict[tuple[Path, str | None, str | None], str] = {}  # by a place's key
        self._seen: Stamps | str = {}  # what was acted upon; or why nothing could be seen
        self._unfinished: dict[Path, str] = {}  # folder of what is refused -> what was in it
        self._unloaded: set[str] = set()  # names that were closed by request, and stay so
        self.refused: dict[str, str] = {}  # name -> why its newest model is not served
        self.unseen: str | None = None  # why the latest look for models found none of them

    def __iter__(self) -> Iterator[Served]:
        """All models, by name, the version that is answered by default first."""
        for name in sorted(self._served):
            yield from self._versions(name)

    @property
    def ready(self) -> bool:
        """Whether there are models, and each accepts pictures."""
        models = list(self)
        return bool(models) and all(model.engine.ready for model in models)

    def find(self, name: str | None = None, version: str | None = None) -> Served:
        """Return a model: the only one where no name is given, its newest version by default.

        Raises:
            UnknownModel: there is none, or a name is needed.
        """
        if name is None:
            if not self._served:
                raise UnknownModel("this server has no model at the moment")
            if len(self._served) > 1:
                names = ", ".join(sorted(self._served))
                raise UnknownModel(f"this server has several models: {names}; name one of them")
            name = next(iter(self._served))
        if name not in self._served:
            names = ", ".join(f"'{each}'" for each in sorted(self._served)) or "none"
            raise UnknownModel(f"unknown model '{name}'; this server has {names}")
        versions = self._versions(name)
        if not version:
            return versions[0]
        for model in versions:
            if model.version == version:
                return model
        has = ", ".join(f"'{model.version}'" for model in versions)
        raise UnknownModel(f"model '{name}' has no version '{version}'; it has {has}")

    @asynccontextmanager
    async def use(
        self, name: str | None = None, version: str | None = None
    ) -> AsyncIterator[Served]:
        """Hold a model, so that it is not closed; raises what `find` raises."""
        model = self.find(name, version)
        model.requests += 1
        try:
            yield model
        finally:
            model.requests -= 1
            if not model.requests:
                model.idle.set()

    async def start(self) -> None:
        """Open all models.

        Raises:
            TaxonError: one may not be served.
        """
        try:
            places = self._look()
            self._seen = _stamps_of(places)
            for place in places:
                await self._put(place)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close all models, each after its last answer."""
        for model in list(self):
            self._retire(model)
        await asyncio.gather(*self._closing)

    async def refresh(self, name: str | None = None) -> None:
        """Look again: open what is new or has changed, close what is gone.

        A model that may not be served is refused, noted in `refused` and logged, and the one that
        served before goes on.

        Args:
            name: this model alone; None: all.

        Raises:
            TaxonError: with a name, why its new model is refused; or where its place is gone.
        """
        async with self._changing:
            places = await asyncio.to_thread(self._look)
            if name is None:
                self._seen = _stamps_of(places)
                self.refused.clear()  # what may still not be served is refused again
                self._unfinished.clear()
                places = [place for place in places if self._name(place) not in self._unloaded]
            else:
                self.refused.pop(name, None)
                self._unloaded.discard(name)
                places = [place for place in places if self._name(place) == name]
                if not places:
                    raise UnknownModel(f"there is no model '{name}' where this server looks")
                if isinstance(self._seen, dict):
                    self._seen |= _stamps_of(places)
            failures = [error for place in places if (error := await self._try(place)) is not None]
            if failures and name is not None:
                raise failures[0]
            if name is None:
                self._drop_all_but(places)

    async def _try(self, place: Place) -> TaxonError | None:
        """Open a place's model, or refuse it: noted, logged, and told to the caller."""
        contents = await asyncio.to_thread(contents_stamp, place.folder)
        try:
            await self._put(place)
        except Exception as error:  # a damaged file makes libraries raise many kinds
            # What no process is there to open is tried again at the next look.
            self._unfinished[place.folder] = "" if isinstance(error, Overloaded) else contents
            self.refused[self._name(place)] = reason_of(error)
            _log.error("refused %s: %s", place.folder, reason_of(error))
            return error if isinstance(error, TaxonError) else BundleError(reason_of(error))
        return None

    def look_again(self) -> None:
        """Have `watch` look now."""
        self._look_now.set()

    async def watch(self) -> None:
        """Look for changed places each second, and at once after `look_again`; for ever."""
        while True:
            asked = False
            try:
                async with asyncio.timeout(_SECONDS):
                    await self._look_now.wait()
                asked = True
            except TimeoutError:
                pass
            self._look_now.clear()
            try:
                found = await asyncio.to_thread(self._stamps)
                # What was refused is not tried again until it changes: it may still be copied.
                if asked or found != self._seen or await asyncio.to_thread(self._has_gone_on):
                    self._seen = found
                    await self.refresh()
                    self.unseen = None
            except Exception as error:  # whatever it is, it looks again
                self.unseen = reason_of(error)
                _log.error("cannot look for models: %s", self.unseen)

    def _stamps(self) -> Stamps | str:
        try:
            return _stamps_of(self._look())
        except (TaxonError, OSError) as error:
            return str(error)

    def _has_gone_on(self) -> bool:
        """Whether what was refused has changed since."""
        refused = list(self._unfinished.items())
        return any(contents_stamp(at) != before for at, before in refused)

    async def unload(self, name: str) -> None:
        """Close a model, all its versions, after their last answers, until `refresh` of its name.

        Raises:
            UnknownModel: there is none of this name.
        """
        async with self._changing:
            self.find(name)
            self._unloaded.add(name)
            for model in self._versions(name):
                self._retire(model)

    def _name(self, place: Place) -> str:
        """The name of a place; where the model itself says it, that of the last one served."""
        return self._called.get(place.key) or place.name or place.folder.name

    async def _put(self, place: Place) -> None:
        """Open a place's model, unless the same one is served already, and point its name at it."""
        if place.fault is not None:
            raise InputError(place.fault)
        before = [model for model in self if model.place.key == place.key]
        if any(model.place.stamp == place.stamp for model in before):
            return
        opened = await self._open(place)
        try:
            self._point(place, opened, before)
        except BaseException:
            await opened.engine.stop()
            raise

    def _point(self, place: Place, opened: Opened, before: list[Served]) -> None:
        """Point a place's name at what was opened there, in place of what was there before."""
        fingerprint = opened.engine.description.spec.fingerprint
        version = place.version or fingerprint[:_VERSION_DIGITS]
        reference = opened.reference
        model = Served(
            place, version, opened, None if reference is None else DriftMonitor(reference)
        )
        versions = self._served.setdefault(model.name, {})
        twin = versions.get(version)
        if twin is not None and twin not in before:
            raise InputError(
                f"{twin.place.folder} and {place.folder} are both model '{model.name}', version "
                f"'{version}'; give one another name: NAME={place.folder}"
            )
        for old in before:
            self._retire(old)
        self._served.setdefault(model.name, {})[version] = model
        self._called[place.key] = model.name
        _log.info("serving %s, version %s, from %s", model.name, version, place.folder)

    def _drop_all_but(self, places: list[Place]) -> None:
        keys = {place.key for place in places}
        for model in list(self):
            if model.place.key not in keys:
                self._retire(model)

    def _retire(self, model: Served) -> None:
        """Take a model off the table; it is closed after its last answer."""
        versions = self._served[model.name]
        if versions.get(model.version) is model:
            del versions[model.version]
        if not versions:
            del self._served[model.name]
        task = asyncio.create_task(self._close(model))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, model: Served) -> None:
        while model.requests:
            model.idle.clear()
            await model.idle.wait()
        try:
            await model.engine.stop()
        except Exception:
            _log.exception("cannot close %s, version %s", model.name, model.version)
            return
        _log.info("closed %s, version %s", model.name, model.version)

    def _versions(self, name: str) -> list[Served]:
        """The newest first: by number where they are numbers, else the latest that was opened."""
        models = list(self._served[name].values())
        if all(model.version.isdecimal() for model in models):
            return sorted(models, key=lambda model: int(model.version), reverse=True)
        return models[::-1]


def _stamps_of(places: Iterable[Place]) -> Stamps:
    return {place.key: place.stamp for place in places}
