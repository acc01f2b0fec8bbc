"""Show a batch: training pictures as the model will see them, on one sheet, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from taxon.api.batch_sheet import draw_sheet, require_sheet_file, write_sheet
from taxon.api.latency import with_budget
from taxon.api.reading import read_training_data, require_task
from taxon.api.settings import TrainingOptions, training_settings
from taxon.data import Columns, data_path, read_source
from taxon.data.loading.rare_augmentation import with_pipeline
from taxon.models.stack import require_torch_stack
from taxon.training import Listener, Note, silent


def show_batch(
    data: str | Path,
    out: str | Path,
    *,
    columns: Columns | None = None,
    budget_ms: float | None = None,
    trust_pickle: bool = False,
    overwrite: bool = False,
    listener: Listener = silent,
    **options: Unpack[TrainingOptions],
) -> Path:
    """Write a sheet (PNG) of the pictures that training would begin with, after augmentation.

    Data, split, framing, augmentation, order and mixing are chosen as `train` chooses them with
    the same arguments; nothing is trained. At the top stands the first picture in several views,
    below it the first batches of epoch 1 with the classes that the loss will count; a teacher is
    not asked.

    Args:
        out: the file to write; it ends in .png.
        overwrite: replace an earlier sheet.
        listener: told what happens.

    The others are those of `train`.

    Returns:
        The file.

    Raises:
        InputError: the data, the weights, the configuration or the output cannot be used.
    """
    settings = training_settings(listener=listener, **options)
    source, target = data_path(data), Path(out)
    require_sheet_file(target, source, overwrite=overwrite)
    require_torch_stack()

    # Imported here: the command line and the server start without torch.
    from taxon.api.batch_views import prepare_views, sections, sentences
    from taxon.api.starting import choose_start

    listing = read_source(source, columns)
    require_task(settings, listing.label_space())
    settings, reason = with_budget(settings, budget_ms, listener)
    settings = with_pipeline(settings)
    start = choose_start(settings, Path.cwd(), listener, trust_pickle=trust_pickle, reason=reason)
    data_read = read_training_data(listing, settings, listener, start.preprocessing)
    views = prepare_views(start, data_read.manifest, settings, listener)
    title = f"What the model sees in training: {source.resolve().name}"
    write_sheet(draw_sheet(title, sentences(views), sections(views, listener)), target)
    listener(Note(f"sheet written to {target}"))
    return target
