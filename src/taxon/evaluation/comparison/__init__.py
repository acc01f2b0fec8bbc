"""Two runs on the same pictures: `compare.json` and its page; imports no torch."""

from taxon.evaluation.comparison.compute import compare_answers
from taxon.evaluation.comparison.figures import Answers
from taxon.evaluation.comparison.page import write_page
from taxon.evaluation.comparison.summary import Paired, PairedMetrics
from taxon.evaluation.comparison.wording import paired_rows

__all__ = ["Answers", "Paired", "PairedMetrics", "compare_answers", "paired_rows", "write_page"]
