"""Configuration: the schema, YAML loading, overrides and the recipes in the package."""

from taxon.config.load import load_config
from taxon.config.schema import (
    AugmentConfig,
    ImbalanceConfig,
    ImbalanceStrategy,
    LoaderConfig,
    PreprocessingConfig,
    SplitConfig,
    StageConfig,
    TrainConfig,
)

__all__ = [
    "AugmentConfig",
    "ImbalanceConfig",
    "ImbalanceStrategy",
    "LoaderConfig",
    "PreprocessingConfig",
    "SplitConfig",
    "StageConfig",
    "TrainConfig",
    "load_config",
]
