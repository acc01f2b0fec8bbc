"""Check what an export was asked for, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from taxon.core.errors import ConfigError
from taxon.exporters.formats import NAMES, Format, find_format, require_packages
from taxon.exporters.job import ExportOptions

LARGEST_FRAME = 8192  # pixels a side: the matrices of the resize grow with it
LARGEST_BATCH = 1024


def wanted_formats(formats: Sequence[str], frame: tuple[int, int] | None) -> list[Format]:
    """Return the formats, each once, all of which can be made here.

    Raises:
        ConfigError: none, an unknown one, or one that takes no whole frames where they are asked
            for.
        MissingDependencyError: a converter is not installed.
    """
    if not formats:
        raise ConfigError(f"no format; name one or several of: {', '.join(NAMES)}")
    wanted = [find_format(name) for name in dict.fromkeys(formats)]
    for each in wanted:
        require_packages(each)
        if frame is not None and not each.takes_frames:
            able = ", ".join(other for other in NAMES if find_format(other).takes_frames)
            raise ConfigError(
                f"the format {each.name} takes no whole frames (--frame); those that do: {able}"
            )
    return wanted


def check_options(options: ExportOptions) -> None:
    """Check figures that converters would refuse late, or not at all.

    Raises:
        ConfigError: one is not allowed.
    """
    if not 0 <= options.max_drop <= 1:
        raise ConfigError(
            f"--max-drop is a share, 0 to 1 (0.01 is one point), not {options.max_drop}"
        )
    if options.frame is not None and not all(8 <= side <= LARGEST_FRAME for side in options.frame):
        width, height = options.frame
        raise ConfigError(
            f"--frame has from 8 to {LARGEST_FRAME} pixels a side, not {width}x{height}"
        )
    if not 1 <= options.max_batch_size <= LARGEST_BATCH:
        raise ConfigError(
            f"--max-batch-size is from 1 to {LARGEST_BATCH}, not {options.max_batch_size}"
        )
    if options.max_delay_ms < 0:
        raise ConfigError(f"--max-delay-ms is 0 or more, not {options.max_delay_ms}")
    if options.instances < 1:
        raise ConfigError(f"--instances is 1 or more, not {options.instances}")
