"""A figure's inline SVG follows the theme, keeps its texts unchanged, and shares no id with another."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from nephros.reporting.html import save_figure
from nephros.reporting.plots.classification import plot_class_balance

ODD = ' id="x" url(#y) #b4510f <b> &amp; $x^$'


def test_files_are_self_contained_and_inline_svg_is_themed(tmp_path: Path) -> None:
    figure = plot_class_balance({"train": [3, 1], "test": [1, 1]}, [ODD, "two"], "Example cells, own split")
    svg = save_figure(figure, tmp_path / "ratios.png", 'an "alt"')
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    file = (tmp_path / "ratios.svg").read_text(encoding="utf-8")
    texts = [element.text for element in ElementTree.fromstring(file).iter() if element.tag.endswith("text")]
    assert "Example cells, own split" in texts
    assert "#fcfbf8" in file
    assert "dc:date" not in file
    inner = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert inner.get("aria-label") == 'an "alt"'
    assert [element.text for element in inner.iter() if element.tag.endswith("text")] == texts
    tags = " ".join(re.findall(r"<[^>]*>", svg))
    assert not re.search(r"#[0-9a-f]{6}\b(?!-)", tags)
    for variable in ("paper", "ink", "train", "test"):
        assert f"var(--{variable})" in tags
    ids = re.findall(r' id="([^"]*)"', tags)
    assert ids
    assert len(ids) == len(set(ids))
    assert all(name.startswith("ratios-") for name in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', tags)) == set(ids)


def test_a_name_in_a_script_without_a_font_gives_no_warning(tmp_path: Path) -> None:
    svg = save_figure(plot_class_balance({"train": [3, 1]}, ["肾", "two"], "x"), tmp_path / "ratios.png", "alt")
    assert "肾" in svg
