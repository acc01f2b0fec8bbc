"""COCO-style JSON (images, annotations, categories) -> a listing of pictures with tags."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from taxon.core.errors import DataError
from taxon.core.text import agree, counted, some
from taxon.data.manifest import Skipped
from taxon.data.sources.listing import Columns, Entry, Listing, Row, locate, make_listing
from taxon.data.sources.words import clean, has_control, is_encodable

_PREFIX = "instances_"
_LOOKED_AT = 20  # pictures by which the folder is chosen
_Objects = Sequence[Mapping[str, Any]]


def is_coco(value: object) -> bool:
    """Whether a JSON value looks like COCO."""
    return isinstance(value, dict) and "images" in value


def read_coco(path: Path, value: Mapping[str, Any], columns: Columns) -> Listing:
    """List the pictures of a COCO file; the categories of its annotations are their tags.

    A picture without annotations has no tag. Pictures lie beside the file, in the usual folders
    around it, or in `columns.image_root`.

    Args:
        value: the content of the file.

    Raises:
        DataError: a part is missing or broken, an annotation names an unknown category, or all
            of them unknown images.
    """
    if replace(columns, image_root=None) != Columns():
        raise DataError(
            f"{path} is COCO: its categories are the tags, and of the options for columns only "
            "--image-root has a meaning; leave out the others"
        )
    images, annotations = _objects(path, value, "images"), _objects(path, value, "annotations")
    categories = _category_names(path, _objects(path, value, "categories"))
    _require_unique([_key(image, "id") for image in images], path)
    tags, lost = _tags(path, images, annotations, categories)
    notes = [*_merged(categories), *lost]
    root = columns.image_root or _root(path, images)
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    for image in images:
        place = f"image {image.get('id')!r}"
        name = image.get("file_name")
        try:
            if not isinstance(name, str) or not name.strip() or not is_encodable(name):
                raise DataError(f"its file_name is {name!a}")
            identity, file = locate(root, name.strip())
        except DataError as error:
            skipped.append(Skipped(f"{path.name}, {place}", str(error)))
            continue
        entries.append(Entry(place, Row(identity, file, tuple(sorted(tags[_key(image, "id")])))))
    declared = categories.values()
    return make_listing(
        root, entries, "tags", path, notes=notes, skipped=skipped, declared=declared
    )


def _objects(path: Path, value: Mapping[str, Any], key: str) -> _Objects:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"{path} looks like COCO, but '{key}' is not a list of objects in it")
    return found


def _key(item: Mapping[str, Any], name: str) -> str:
    """Return an id so that `1`, `1.0` and `"1"`, and whatever else is found, can be compared."""
    value = item.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        return value
    return repr(value)


def _category_names(path: Path, categories: _Objects) -> dict[str, str]:
    names = {}
    for category in categories:
        name = category.get("name")
        if not isinstance(name, str) or not clean(name) or not is_encodable(name):
            raise DataError(f"{path}: category {category.get('id')!r} has the name {name!a}")
        if has_control(clean(name)):
            raise DataError(
                f"{path}: the name of category {category.get('id')!r}, {name!r}, holds a line end "
                "or another control character"
            )
        names[_key(category, "id")] = clean(name)
    if len(names) < len(categories):
        raise DataError(f"{path}: two categories have the same id")
    return names


def _merged(categories: Mapping[str, str]) -> list[str]:
    """Note the names that several categories share: they become one tag."""
    repeated = [name for name, count in Counter(categories.values()).items() if count > 1]
    return [f"several categories are called {some(repeated)} and become one tag"] * bool(repeated)


def _require_unique(keys: Sequence[str], path: Path) -> None:
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path}: {counted(len(repeated), 'id stands', 'ids stand')} for several pictures "
            f"(say {repeated[0]}), so "
            "nobody can tell which of them an annotation means"
        )


def _tags(
    path: Path, images: _Objects, annotations: _Objects, categories: Mapping[str, str]
) -> tuple[Mapping[str, set[str]], list[str]]:
    """Return the tags by the image's id, and a note on annotations of unknown images."""
    known = {_key(image, "id") for image in images}
    tags: dict[str, set[str]] = defaultdict(set)
    lost = []
    for position, annotation in enumerate(annotations):
        place = f"annotation {annotation.get('id', position)!r}"
        category, image = _key(annotation, "category_id"), _key(annotation, "image_id")
        if category not in categories:
            raise DataError(
                f"{path}: {place} has the category_id {category}, which 'categories' lacks"
            )
        if image not in known:
            lost.append(f"{place} of image_id {image}")
        tags[image].add(categories[category])
    if not lost:
        return tags, []
    if known and len(lost) == len(annotations):
        none = f"none of the {len(annotations)} annotations belongs"
        none = agree(len(annotations), "the only annotation does not belong", none)
        raise DataError(
            f"{path}: {none} to a picture in 'images' "
            f"(say {lost[0]}; the first id in 'images' is {_key(images[0], 'id')}); their ids must "
            "match"
        )
    # Files that were cut down to some of their pictures often keep all annotations.
    return tags, [
        f"{counted(len(lost), 'annotation belongs', 'annotations belong')} to pictures that "
        f"'images' lacks and {agree(len(lost), 'was', 'were')} passed over "
        f"(say {', '.join(lost[:3])})"
    ]


def _root(path: Path, images: _Objects) -> Path:
    """Return the folder, among those that are usual, that holds most of the first pictures."""
    stem = path.stem.removeprefix(_PREFIX)
    folder, above = path.parent, path.parent.parent
    usual = [
        folder,
        folder / "images",
        folder / stem,
        above,
        above / "images",
        above / stem,
        above / "images" / stem,
    ]
    names = [image.get("file_name") for image in images[:_LOOKED_AT]]

    def present(root: Path) -> int:
        return sum(isinstance(name, str) and _is_there(root, name) for name in names)

    return max(usual, key=present)  # the first of equals


def _is_there(root: Path, name: str) -> bool:
    try:
        return is_encodable(name) and locate(root, name.strip())[1].is_file()
    except (DataError, OSError, ValueError):
        return False
