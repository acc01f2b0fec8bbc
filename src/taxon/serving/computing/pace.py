"""How fast pictures are answered, by which is told how long a new one would wait."""

from __future__ import annotations

_KEPT = 0.98  # of what is known, with each picture
_KNOWN = 20.0  # pictures, that what is known before counts for


class Pace:
    """The seconds that a picture costs while there is work, over the latest fifty or so.

    What counts is the time from one answer's end to the next one's, so that decoding, which
    shares the cores, is in it; idle time is not.

    Args:
        seconds_each: as it is known before; 0: not at all.
    """

    def __init__(self, seconds_each: float = 0.0) -> None:
        self._pictures = _KNOWN if seconds_each else 0.0
        self._seconds = seconds_each * self._pictures
        self._ended = 0.0

    @property
    def seconds_each(self) -> float:
        """Seconds a picture; 0 where nothing is known."""
        return self._seconds / self._pictures if self._pictures else 0.0

    def note(self, pictures: int, first_arrived: float, ended: float) -> None:
        """Count a batch: how many pictures, when the first arrived, when it ended (one clock)."""
        kept = _KEPT**pictures
        self._pictures = kept * self._pictures + pictures
        self._seconds = kept * self._seconds + ended - max(first_arrived, self._ended)
        self._ended = ended

    def wait(self, pictures: int) -> float:
        """Seconds until so many pictures are answered."""
        return pictures * self.seconds_each
