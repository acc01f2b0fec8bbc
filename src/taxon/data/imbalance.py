"""Imbalance: what to do about rare classes, and why; no strategy compensates twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from taxon.config import ImbalanceConfig, ImbalanceStrategy
from taxon.config.losses import TaxonomyLossName
from taxon.core.errors import ConfigError
from taxon.core.labels import Task

# From this ratio of the largest to the smallest class on, `auto` does something.
NOTICEABLE_RATIO = 3.0
# The best of the strategies compared in benchmarks/RESULTS.md, and the steadiest over seeds.
AUTO_STRATEGY: ImbalanceStrategy = "focal"
# One picture of a very rare tag must not outweigh a whole batch.
LARGEST_POSITIVE_WEIGHT = 10.0

# Each of these makes up for class frequency; two of them would make up for it twice.
COMPENSATORS: dict[ImbalanceStrategy, str] = {
    "weighted-sampler": "draws pictures of rare classes more often",
    "oversample": "repeats pictures of rare classes",
    "class-weights": "counts rare classes more in the loss",
    "balanced-softmax": "shifts the logits by class frequency in training",
    "logit-adjust": "shifts the logits by class frequency after training",
}
# These read class frequency into the softmax, which holds for a likelihood only.
LIKELIHOOD_SHIFTS: tuple[ImbalanceStrategy, ...] = ("balanced-softmax", "logit-adjust")
# What changes the loss of single classes; a loss over a taxonomy is none.
FLAT_ONLY: tuple[ImbalanceStrategy, ...] = ("focal", *LIKELIHOOD_SHIFTS)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ImbalancePlan:
    """What is done about rare classes in one run.

    Attributes:
        strategies: resolved: never `auto`; (`none`,) where nothing is done.
        reasons: why, in plain words.
        counts: int64 [C], training pictures of each class.
        negatives: int64 [C], training pictures that are known not to be of each class.
        settings: the strengths.
    """

    strategies: tuple[ImbalanceStrategy, ...]
    reasons: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    negatives: npt.NDArray[np.int64]
    settings: ImbalanceConfig

    def uses(self, strategy: ImbalanceStrategy) -> bool:
        """Whether a strategy is part of the plan."""
        return strategy in self.strategies

    def sentence(self) -> str:
        """What and why, for the log and the bundle."""
        return f"imbalance: {' with '.join(self.strategies)} ({'; '.join(self.reasons)})"


def choose(
    config: ImbalanceConfig,
    counts: Mapping[str, int],
    task: Task,
    *,
    pictures: int,
    taxonomy_loss: TaxonomyLossName = "flat",
    known: Mapping[str, int] | None = None,
) -> ImbalancePlan:
    """Resolve `auto`, and refuse what does not go together.

    `auto` does nothing below a ratio of 3, for multi-label (each label gets its own threshold by
    F1) and with a loss over a taxonomy; else it takes focal loss.

    Args:
        counts: training pictures of each class, in the order of the label space.
        pictures: training pictures; for multi-label not the sum of the counts.
        taxonomy_loss: of the loss's configuration.
        known: of how many of them it is known whether they are of each class; None is all.

    Raises:
        ConfigError: as `require_compatible`.
    """
    require_compatible(config.strategy, task, taxonomy_loss)
    strategies, reasons = tuple(dict.fromkeys(config.strategy)), [_ratio_in_words(counts)]
    if "auto" in strategies:
        strategy, why = _resolve(counts, task, taxonomy_loss)
        strategies, reasons = (strategy,), [f"by auto: {why}"]
    reasons.extend(_strengths(config, strategies))
    numbers = np.array(list(counts.values()), np.int64)
    annotated = known or dict.fromkeys(counts, pictures)
    negatives = np.array([annotated[name] for name in counts], np.int64) - numbers
    return ImbalancePlan(strategies, tuple(reasons), numbers, negatives, config)


def advise(counts: Mapping[str, int], task: Task) -> str:
    """Say in a sentence which strategy `auto` would take for these class counts, and why."""
    strategy, why = _resolve(counts, task)
    return f"--imbalance auto takes '{strategy}': {why}"


def imbalance_ratio(counts: Mapping[str, int]) -> float:
    """Return how many times the pictures of the smallest class the largest has, 1 or more.

    Classes without any picture do not count.
    """
    present = [count for count in counts.values() if count]
    return max(present) / min(present) if present else 1.0


def require_compatible(
    strategies: Sequence[ImbalanceStrategy], task: Task, taxonomy_loss: TaxonomyLossName = "flat"
) -> None:
    """Refuse strategies that do not go together, or not with the task or the loss.

    Raises:
        ConfigError: two strategies would compensate twice; `auto` or `none` beside others; one
            that needs a softmax, for multi-label; one that changes the loss of single classes,
            with a loss over a taxonomy.
    """
    chosen = tuple(dict.fromkeys(strategies))
    listed = ", ".join(chosen)
    alone = [name for name in chosen if name in ("auto", "none")]
    if alone and len(chosen) > 1:
        raise ConfigError(
            f"--imbalance '{alone[0]}' stands alone, received: {listed}; leave it or the others out"
        )
    compensating = [name for name in chosen if name in COMPENSATORS]
    if len(compensating) > 1:
        first, second = compensating[:2]
        raise ConfigError(
            f"'{first}' {COMPENSATORS[first]} and '{second}' {COMPENSATORS[second]}: together "
            "they would compensate twice, and favour rare classes over common ones. Take one of "
            f"{', '.join(compensating)}"
        )
    flat_only = [name for name in chosen if name in FLAT_ONLY]
    if flat_only and taxonomy_loss != "flat":
        raise ConfigError(
            f"'{flat_only[0]}' is defined for a loss over single classes, and "
            f"loss.taxonomy={taxonomy_loss} is one over a tree; leave one of them out. Allowed "
            "with it: auto, none, weighted-sampler, class-weights, oversample"
        )
    shifts = [name for name in chosen if name in LIKELIHOOD_SHIFTS]
    if shifts and "focal" in chosen:
        raise ConfigError(
            f"'{shifts[0]}' reads the softmax as class probabilities and moves them by class "
            "frequency, but focal loss learns no probabilities (it holds back on easy pictures): "
            f"the shift would be wrong. Take '{shifts[0]}' or 'focal' alone, or focal with "
            "weighted-sampler, oversample or class-weights"
        )
    if shifts and task == "multilabel":
        raise ConfigError(
            f"'{shifts[0]}' balances classes that exclude each other; with several labels a "
            "picture, each label gets its own threshold by F1 already. Allowed: auto, none, "
            "weighted-sampler, focal, class-weights, oversample"
        )


def class_weights(plan: ImbalancePlan) -> FloatArray:
    """Weights for multi-class, float64 [C]; their mean over the training pictures is 1."""
    weights = _inverse_frequency(np.maximum(plan.counts, 1).astype(np.float64), plan.settings)
    return np.asarray(weights * plan.counts.sum() / (weights * plan.counts).sum())


def positive_weights(plan: ImbalancePlan) -> FloatArray:
    """Weights of a label's positives against its negatives, for multi-label: float64 [C].

    (negatives / positives) ** weight_power, or the effective numbers' ratio, held between 0.1
    and 10.
    """
    positives = np.maximum(plan.counts, 1).astype(np.float64)
    negatives = np.maximum(plan.negatives, 1).astype(np.float64)
    weights = _inverse_frequency(positives, plan.settings) / _inverse_frequency(
        negatives, plan.settings
    )
    return np.clip(weights, 1 / LARGEST_POSITIVE_WEIGHT, LARGEST_POSITIVE_WEIGHT)


def frequency_shift(plan: ImbalancePlan) -> FloatArray:
    """tau * log(share of the class in training), float64 [C].

    Balanced softmax (Ren et al. 2020) adds it to the logits in training; logit adjustment (Menon
    et al. 2021) takes it off them afterwards.
    """
    counts = np.maximum(plan.counts, 1).astype(np.float64)
    return np.asarray(plan.settings.tau * np.log(counts / counts.sum()))


def logit_adjustment(plan: ImbalancePlan) -> FloatArray | None:
    """The bias that post-hoc logit adjustment adds to the logits, float64 [C], or None."""
    return -frequency_shift(plan) if plan.uses("logit-adjust") else None


def _resolve(
    counts: Mapping[str, int], task: Task, taxonomy_loss: TaxonomyLossName = "flat"
) -> tuple[ImbalanceStrategy, str]:
    ratio = imbalance_ratio(counts)
    found = _ratio_in_words(counts)
    if ratio < NOTICEABLE_RATIO:
        return "none", found
    if task == "multilabel":
        why = "each label with enough pictures held out gets its own threshold by F1"
        return "none", f"{found}, and {why}"
    if taxonomy_loss != "flat":
        return "none", f"{found}; focal loss does not go with loss.taxonomy={taxonomy_loss}"
    return AUTO_STRATEGY, f"{found}; focal loss lets easy pictures of large classes count less"


def _ratio_in_words(counts: Mapping[str, int]) -> str:
    """`'free' has 10 times the pictures of 'fray', 231 and 23`."""
    present = {name: count for name, count in counts.items() if count}
    ratio = imbalance_ratio(counts)
    if ratio == 1.0:
        return "all classes have the same number of pictures"
    largest = max(present, key=lambda name: present[name])
    smallest = min(present, key=lambda name: present[name])
    digits = 0 if ratio >= 10 else 1
    return (
        f"'{largest}' has {ratio:.{digits}f} times the pictures of '{smallest}', "
        f"{present[largest]} and {present[smallest]}"
    )


def _strengths(config: ImbalanceConfig, strategies: Sequence[ImbalanceStrategy]) -> list[str]:
    """The strengths of the strategies that are on."""
    effective = config.effective_number_beta
    words: dict[ImbalanceStrategy, str] = {
        "weighted-sampler": f"sampler power {config.sampler_power:g}",
        "focal": f"gamma {config.focal_gamma:g}",
        "class-weights": f"effective number, beta {effective:g}"
        if effective
        else f"weight power {config.weight_power:g}",
        "oversample": f"up to {config.oversample_share:.0%} of the largest class",
        "balanced-softmax": f"tau {config.tau:g}",
        "logit-adjust": f"tau {config.tau:g}",
    }
    return [words[name] for name in strategies if name in words]


def _inverse_frequency(counts: FloatArray, settings: ImbalanceConfig) -> FloatArray:
    """Weights that fall with the count: by its power, or by the effective number of pictures."""
    beta = settings.effective_number_beta
    if beta:
        return np.asarray((1 - beta) / (1 - beta**counts))
    return np.asarray(counts**-settings.weight_power)
