"""What was imported, kept out of the way of what is served."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled_imports() -> Iterator[None]:
    """Have the garbage collector pass over all that is there now.

    It would look at each of some eighty thousand objects of imported modules again and again, while
    every thread waits: 10 to 50 ms, as long as several pictures take.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
