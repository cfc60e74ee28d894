"""compare.html: runs and published results on one page, with a chart."""

from __future__ import annotations

from pathlib import Path

from nephros.evaluation.comparison import Comparison
from nephros.files import write_text
from nephros.reporting.comparison.tables import sentence, to_csv, to_markdown
from nephros.reporting.plots.leaderboard_chart import standing
from nephros.reporting.plots.save import save
from nephros.reporting.templates import template


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write compare.md, compare.csv, compare.html and figures/compare.png and .svg into `out`; return the first three."""
    tag = "synthetic-" if "synthetic" in comparison.title else ""
    picture = out / "figures" / f"{tag}compare.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    alt = f"Accuracy of {len(comparison.rows)} methods, the highest first"
    drawn = save(standing(comparison.rows, comparison.split, comparison.title), picture, alt)
    page = template("comparison/compare.html").render(
        comparison=comparison,
        title=comparison.title,
        drawn=drawn,
        sentences=[sentence(*row) for row in comparison.pairs],
    )
    texts = {"compare.md": to_markdown(comparison), "compare.csv": to_csv(comparison), "compare.html": page}
    for name, text in texts.items():
        write_text(out / f"{tag}{name}", text)
    return [out / f"{tag}{name}" for name in texts]
