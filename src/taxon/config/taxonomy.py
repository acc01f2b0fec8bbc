"""What of the configuration has a meaning for a taxonomy only."""

from __future__ import annotations

from taxon.config.schema import TrainConfig
from taxon.core.errors import ConfigError
from taxon.core.labels import LabelSpace


def require_taxonomy(config: TrainConfig, label_space: LabelSpace) -> None:
    """Refuse a loss or a rule that follows a taxonomy, for classes that have none.

    Raises:
        ConfigError: it names the key, and how data become a taxonomy.
    """
    if label_space.is_taxonomy:
        return
    usual = {"loss.taxonomy": "flat", "decision.taxonomy_rule": "most-probable"}
    received = {
        "loss.taxonomy": config.loss.taxonomy,
        "decision.taxonomy_rule": config.decision.taxonomy_rule,
    }
    for key, value in received.items():
        if value != usual[key]:
            raise ConfigError(
                f"{key}={value} follows a taxonomy, and these {len(label_space.names)} classes "
                f"have none; leave it at '{usual[key]}', or give the classes one: nested folders, "
                "--label-column given twice or more, or --parents FILE"
            )
