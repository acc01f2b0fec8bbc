"""Figures in words: what the report and the terminal print."""

from __future__ import annotations

from dataclasses import dataclass

from taxon.evaluation.summary import CalibrationFigures, Metrics, TaxonomyFigures
from taxon.metrics import Figure


@dataclass(frozen=True)
class Row:
    """One figure with its name and one sentence on what it says.

    Attributes:
        percent: printed as per cent; else as a plain number.
    """

    name: str
    figure: Figure
    meaning: str
    percent: bool = True

    @property
    def value(self) -> str:
        """`83.1 %`, `0.512`, or a dash where the figure is undefined."""
        return percent(self.figure.value) if self.percent else plain(self.figure.value)

    @property
    def interval(self) -> str:
        """`78.2 to 87.4`, or nothing."""
        if self.figure.ci95 is None:
            return ""
        scale, digits = (100, 1) if self.percent else (1, 3)
        low, high = (f"{scale * end:.{digits}f}" for end in self.figure.ci95)
        return f"{low} to {high}"


def percent(share: float | None) -> str:
    """Write a fraction as `83.1 %`; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def plain(number: float | None) -> str:
    """Write a number with three decimals; a dash for None."""
    return "–" if number is None else f"{number:.3f}"


def points(share: float | None) -> str:
    """Write a difference of shares as `-3.2 points`; a dash for None."""
    if share is None:
        return "–"
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}") + " points"


def headline_rows(metrics: Metrics) -> list[Row]:
    """Return the few figures that lead the report."""
    macro_f1 = Row("Macro-F1", metrics.macro_f1, "the mean F1; every class counts the same")
    auc = Row("AUC-ROC", metrics.auc_roc.macro, "how well each class is ranked; 50 % is guessing")
    if metrics.task == "multilabel":
        return [
            macro_f1,
            Row("mAP", metrics.average_precision.macro, "mean average precision over the classes"),
            Row("Micro-F1", metrics.micro_f1, "F1 over all decisions together"),
            auc,
        ]
    return [
        Row("Top-1", metrics.top1, "pictures whose answer is right"),
        macro_f1,
        Row("Balanced accuracy", metrics.balanced_accuracy, "the mean recall over the classes"),
        auc,
    ]


def all_rows(metrics: Metrics) -> list[Row]:
    """Return every overall figure that the task has, for the table."""
    average = metrics.average_precision.macro
    calibration = metrics.calibration
    by_chance = "Of perfectly calibrated classifiers: the mean, and where 95 % of them lie."
    shared = [
        Row("Macro-F1", metrics.macro_f1, "Mean F1; a rare class counts as much as a common one."),
        Row("Micro-F1", metrics.micro_f1, "F1 over all decisions together."),
        Row("Weighted F1", metrics.weighted_f1, "Mean F1, weighted by the pictures of each class."),
        Row("AUC-ROC, macro", metrics.auc_roc.macro, "Each class against the rest; 50 % guesses."),
        Row("Average precision, macro", average, "Area under precision and recall (mAP)."),
        Row("Log loss", metrics.log_loss, "Penalises confident mistakes; 0 is perfect.", False),
        Row("Brier score", calibration.brier, "Squared error of the probabilities.", False),
        Row("ECE", calibration.ece, "Mean gap between confidence and accuracy."),
        Row("ECE by chance", calibration.ece_by_chance, by_chance),
        Row("Adaptive ECE", calibration.adaptive_ece, "As ECE, over equally filled bins."),
        *_uncalibrated_rows(calibration),
        Row("Coverage", metrics.coverage, "Share that is answered: neither unsure nor flagged."),
    ]
    if metrics.task == "multilabel":
        return [*shared, *_several_label_rows(metrics)]
    kappa = "Agreement beyond chance: 0 is chance, 1 is perfect."
    quadratic = "The same for ordered classes; a mistake weighs its distance squared."
    matthews = "Correlation of truth and answer: 0 is chance, 1 is perfect."
    return [
        Row("Top-1", metrics.top1, "Share of pictures whose answer is right."),
        Row("Top-5", metrics.top5, "The true class is among the five most probable."),
        Row("Balanced accuracy", metrics.balanced_accuracy, "Mean recall over the classes."),
        Row("Cohen's kappa", metrics.cohen_kappa, kappa, percent=False),
        Row("Quadratic kappa", metrics.cohen_kappa_quadratic, quadratic, percent=False),
        Row("Matthews correlation", metrics.matthews, matthews, percent=False),
        *shared,
        *_taxonomy_rows(metrics.taxonomy),
    ]


def _uncalibrated_rows(calibration: CalibrationFigures) -> list[Row]:
    """What calibration changed; nothing where there was none."""
    before = calibration.uncalibrated
    # As printed: another backend than the one that trained differs in the last bits.
    if before is None or plain(before.nll.value) == plain(calibration.nll.value):
        return []
    return [
        Row("ECE before calibration", before.ece, "Of the network's own probabilities."),
        Row("Log loss before calibration", before.nll, "Of the same.", percent=False),
        Row("Brier score before calibration", before.brier, "Of the same.", percent=False),
    ]


def _several_label_rows(metrics: Metrics) -> list[Row]:
    """What only several labels a picture have."""
    ranking = metrics.label_ranking_average_precision
    return [
        Row("Macro-F1 at 0.5", metrics.macro_f1_at_half, "With a threshold of 0.5 for every tag."),
        Row("Micro-F1 at 0.5", metrics.micro_f1_at_half, "With a threshold of 0.5 for every tag."),
        Row("Hamming loss", metrics.hamming_loss, "Share of yes and no that is wrong; 0 is best."),
        Row("Exact match", metrics.exact_match, "Pictures with every tag right."),
        Row("Label ranking precision", ranking, "How high a picture's own tags are ranked."),
    ]


def _taxonomy_rows(figures: TaxonomyFigures | None) -> list[Row]:
    """How near the answers are to the truth, for a taxonomy."""
    if figures is None:
        return []
    top = figures.height
    rows = [
        Row(
            f"Height of mistakes (1 to {top})",
            figures.mistake_height,
            f"Of mistakes, how far up truth and answer meet: 1 for siblings, {top} for the root.",
            percent=False,
        ),
        Row(
            f"Hierarchical distance (0 to {top})",
            figures.average_distance,
            "The same over all pictures; a right answer counts 0.",
            percent=False,
        ),
        Row(
            "Hierarchical precision",
            figures.precision,
            "Share of the named nodes, ancestors included, that is right.",
        ),
        Row(
            "Hierarchical recall",
            figures.recall,
            "Share of the true nodes, ancestors included, that is named.",
        ),
        Row(
            "Hierarchical F1",
            figures.f1,
            "Overlap of named and true nodes; an answer in the right branch counts in part.",
        ),
    ]
    if figures.precision == figures.recall:
        # Where all classes lie equally deep, the three are one and the same.
        del rows[2:4]
    return rows


def meaning_sentence(metrics: Metrics) -> str:
    """Say in one or two plain sentences what the first headline figure means."""
    pictures = f"{metrics.n:,} {'picture' if metrics.n == 1 else 'pictures'}"
    if metrics.task == "multilabel":
        figure = metrics.macro_f1
        if figure.value is None:
            return f"No picture of the {pictures} has any of the classes: nothing can be scored."
        return (
            f"Averaged over the classes, the balance of wrong and missed labels (F1) is "
            f"{percent(figure.value)}, where 100 % is perfect."
            + _plausible(figure, 100, f"With {pictures}", " %")
        )
    figure = metrics.top1
    assert figure.value is not None  # multiclass top-1 is always defined
    sentence = (
        f"Of 100 new pictures like these, about {100 * figure.value:.0f} would get the right class."
    )
    if figure.value == 1.0 and figure.ci95 is not None:
        return sentence + (
            f" No mistake was seen in {pictures}; up to {100 * (1 - figure.ci95[0]):.1f} % "
            "mistakes would be compatible with that."
        )
    return sentence + _plausible(figure, 100, f"With {pictures} to measure on", "")


def _plausible(figure: Figure, scale: int, condition: str, unit: str) -> str:
    if figure.ci95 is None:
        return ""
    low, high = (scale * end for end in figure.ci95)
    return f" {condition}, anything from {low:.0f} to {high:.0f}{unit} is plausible."


def findings(metrics: Metrics) -> list[str]:
    """Return plain sentences on what to look at first."""
    found = []
    if metrics.taxonomy is not None and metrics.taxonomy.rule == "least-risk":
        found.append(
            "An answer is the class with the nearest mistakes to be expected, which need not be "
            "the most probable one; probabilities, levels, top-5 and calibration do not depend "
            "on that."
        )
    scored = [
        (entry.f1.value, name)
        for name, entry in metrics.per_class.items()
        if entry.f1.value is not None
    ]
    if len(scored) > 1:
        value, name = min(scored)
        found.append(
            f"The weakest class is “{name}”: F1 {percent(value)} "
            f"on {metrics.per_class[name].support} pictures."
        )
    pairs = confused_pairs(metrics, 1)
    if pairs:
        true, predicted, count = pairs[0]
        found.append(
            f"The most frequent mistake: “{true}” taken for “{predicted}”, "
            f"{count} of {metrics.per_class[true].support} times."
        )
    absent = [name for name, entry in metrics.per_class.items() if entry.support == 0]
    if absent:
        shown = ", ".join(f"“{name}”" for name in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        found.append(f"No pictures of {shown}{more}: nothing is known of these classes.")
    unknown = sum(entry.unknown for entry in metrics.per_class.values())
    if unknown:
        share = unknown / (metrics.n * len(metrics.classes))
        found.append(
            f"{percent(share)} of the annotations are unknown: a class is scored on the pictures "
            "of which it is known whether they have it."
        )
    small = sum(0 < entry.support < 20 for entry in metrics.per_class.values())
    if small:
        noun = "class has" if small == 1 else "classes have"
        found.append(f"{small} {noun} fewer than 20 pictures: their figures are rough.")
    return found


def confused_pairs(metrics: Metrics, limit: int) -> list[tuple[str, str, int]]:
    """Return (true class, predicted class, count), the most frequent mistakes first."""
    if metrics.confusion is None:
        return []
    pairs = [
        (metrics.classes[row], metrics.classes[column], count)
        for row, counts in enumerate(metrics.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:limit]
