"""Colors of classes, the same in every overlay, page and file."""

from __future__ import annotations

CLASS_COLORS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#99331a", "#66ffb3", "#cce6ff",
    "#3380ff", "#80664d",
)  # fmt: skip
"""Colors of classes on a dark image: seven of Okabe and Ito's palette (without black) and five more, each as far as possible
(CIEDE2000, under simulation of the three kinds of color blindness) from all before it and from grays."""
