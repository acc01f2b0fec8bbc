"""Configuration: the schema, YAML loading, overrides and the recipes in the package."""

from taxon.config.augmentation import AugmentConfig
from taxon.config.decision import DecisionConfig
from taxon.config.distillation import DistillationConfig
from taxon.config.imbalance import ImbalanceConfig, ImbalanceStrategy
from taxon.config.load import load_config
from taxon.config.losses import LossConfig, require_loss_fits
from taxon.config.pictures import LoaderConfig, PreprocessingConfig, SplitConfig
from taxon.config.schema import HeadKind, Pooling, TrainConfig
from taxon.config.stages import FeatureCacheConfig, OptimiserConfig, StageConfig
from taxon.config.tracking import TrackerName, TrackingConfig

__all__ = [
    "AugmentConfig",
    "DecisionConfig",
    "DistillationConfig",
    "FeatureCacheConfig",
    "HeadKind",
    "ImbalanceConfig",
    "ImbalanceStrategy",
    "LoaderConfig",
    "LossConfig",
    "OptimiserConfig",
    "Pooling",
    "PreprocessingConfig",
    "SplitConfig",
    "StageConfig",
    "TrackerName",
    "TrackingConfig",
    "TrainConfig",
    "load_config",
    "require_loss_fits",
]
