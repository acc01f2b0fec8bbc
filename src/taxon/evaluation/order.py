"""The order of classes that have one (grades, ratings), for figures that need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taxon.core.errors import ConfigError, nearest
from taxon.core.labels import LabelSpace
from taxon.core.text import some

NO_ORDER = (
    "the classes have no order; name one, from the lowest class to the highest: --ordered "
    "low,mid,high"
)


def class_order(
    label_space: LabelSpace, ordered: Sequence[str] | None = None
) -> tuple[int, ...] | None:
    """Return all class positions from the lowest class to the highest, or None without an order.

    Args:
        ordered: all class names in their order. None: classes that are all whole numbers are taken
            in the order of these; others have none.

    Raises:
        ConfigError: `ordered` is not exactly the classes, or several labels a picture.
    """
    if label_space.task == "multilabel":
        if ordered is not None:
            raise ConfigError(
                "an order of classes is for one class a picture, and this model names several; "
                "leave --ordered out"
            )
        return None
    if ordered is not None:
        _require_exactly(ordered, label_space.names)
        return tuple(label_space.index(name) for name in ordered)
    if not all(_is_whole_number(name) for name in label_space.names):
        return None
    numbers = [int(name) for name in label_space.names]
    if len(set(numbers)) < len(numbers):
        return None  # 1 and 01: nobody can say which is higher
    return tuple(sorted(range(len(numbers)), key=numbers.__getitem__))


def order_in_words(names: Sequence[str], order: Sequence[int]) -> str:
    """`in the order low, mid, high`; of many classes the first and the last."""
    shown = [names[position] for position in order]
    if len(shown) > 12:
        shown = [*shown[:6], "...", shown[-1]]
    return f"in the order {', '.join(shown)}"


def _is_whole_number(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdecimal()


def _require_exactly(ordered: Sequence[str], names: Sequence[str]) -> None:
    said = "--ordered takes every class once, from the lowest to the highest"
    allowed = f"the classes are: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
    if unknown := [name for name in ordered if name not in names]:
        raise ConfigError(
            f"{said}; there is no class {some(unknown)}; {allowed}.{nearest(unknown[0], names)}"
        )
    if repeated := [name for name, count in Counter(ordered).items() if count > 1]:
        raise ConfigError(f"{said}; received {some(repeated)} more than once; {allowed}")
    if missing := [name for name in names if name not in ordered]:
        raise ConfigError(f"{said}; it lacks {some(missing)}; {allowed}")
