"""What of the policy's configuration goes with which task and classes; known before a training."""

from __future__ import annotations

from taxon.config.decision import DecisionConfig
from taxon.core.errors import ConfigError
from taxon.core.labels import LabelSpace
from taxon.decision.fitting.costs import cost_matrix, require_few, require_known, tag_thresholds


def require_decidable(config: DecisionConfig, space: LabelSpace) -> None:
    """Refuse a configuration that does not go with the task or names other classes.

    Raises:
        ConfigError: it names the key.
    """
    if config.costs is not None:
        if space.task == "multilabel":
            tag_thresholds(config.costs, space)
        else:
            cost_matrix(config.costs, space)
    if config.target_class is not None:
        require_known((config.target_class,), space.names, "class")
    if space.task == "multiclass" and config.target != "f1":
        require_few(space)
    if space.task == "multiclass" and config.target != "f1" and config.target_class is None:
        raise ConfigError(
            f"target={config.target} needs the class that it is for, where a picture has exactly "
            f"one: decision.target_class=NAME; the classes are: {', '.join(space.names[:8])}"
        )
