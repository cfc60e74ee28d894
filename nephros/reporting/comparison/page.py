"""compare.html: runs and published results on one page, with a chart."""

from __future__ import annotations

from pathlib import Path

from nephros.evaluation.comparison import Comparison
from nephros.files import write_text
from nephros.reporting.comparison.tables import describe_paired_test, to_csv, to_markdown
from nephros.reporting.plots.leaderboard_chart import plot_leaderboard
from nephros.reporting.plots.save import save_figure
from nephros.reporting.templates import load_template


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write compare.md, compare.csv, compare.html and figures/compare.png and .svg into `out`; return the first three."""
    prefix = "synthetic-" if "synthetic" in comparison.title else ""
    figure_file = out / "figures" / f"{prefix}compare.png"
    figure_file.parent.mkdir(parents=True, exist_ok=True)
    alt = f"Accuracy of {len(comparison.rows)} methods, the highest first"
    chart = save_figure(plot_leaderboard(comparison.rows, comparison.split, comparison.title), figure_file, alt)
    page = load_template("comparison/compare.html").render(
        comparison=comparison,
        data_title=comparison.title,
        chart=chart,
        paired_tests=[describe_paired_test(*row) for row in comparison.paired_tests],
    )
    texts = {"compare.md": to_markdown(comparison), "compare.csv": to_csv(comparison), "compare.html": page}
    for name, text in texts.items():
        write_text(out / f"{prefix}{name}", text)
    return [out / f"{prefix}{name}" for name in texts]
