"""Framing: what `train` chooses on a data set, how surely, over several samples of pictures.

    python benchmarks/framing.py SET/labels.csv --group-column tile_group \
        --model tf_mobilenetv3_small_100 --weights model.safetensors

Expected: on long strips another framing than the crop wins in nearly all resamples, on all seeds;
elsewhere the framing of the weights stays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from taxon.data import Columns, load_manifest
from taxon.models.backbones import create_backbone, preprocessing_of
from taxon.models.weights import load_pretrained
from taxon.training.candidates import Probes
from taxon.training.framing import choose_framing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--group-column", default="group")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", default="hub")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    train = load_manifest(options.data, Columns(group=options.group_column)).part("train")
    backbone, _ = load_pretrained(create_backbone(options.model), options.weights)
    spec = preprocessing_of(backbone.settings)
    for seed in range(options.seeds):
        chosen = choose_framing(Probes(backbone, train, seed=seed, device="cpu"), spec, "last")
        print(f"{options.data.parent.name}, seed {seed}: {chosen.reason}", flush=True)


if __name__ == "__main__":
    main()
