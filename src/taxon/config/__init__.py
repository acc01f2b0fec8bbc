"""Configuration: the schema, YAML loading, overrides and the recipes in the package."""

from taxon.config.augmentation import AugmentConfig
from taxon.config.imbalance import ImbalanceConfig, ImbalanceStrategy
from taxon.config.load import load_config
from taxon.config.losses import LossConfig, require_loss_fits
from taxon.config.pictures import LoaderConfig, PreprocessingConfig, SplitConfig
from taxon.config.schema import TrainConfig
from taxon.config.stages import FeatureCacheConfig, OptimiserConfig, StageConfig

__all__ = [
    "AugmentConfig",
    "FeatureCacheConfig",
    "ImbalanceConfig",
    "ImbalanceStrategy",
    "LoaderConfig",
    "LossConfig",
    "OptimiserConfig",
    "PreprocessingConfig",
    "SplitConfig",
    "StageConfig",
    "TrainConfig",
    "load_config",
    "require_loss_fits",
]
