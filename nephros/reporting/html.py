"""HTML pages: their templates, and their figures, saved as PNG and SVG and placed inline as SVG that follows the theme."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from nephros.escaping import command_without_folders, without_folders
from nephros.files import atomic_write
from nephros.reporting.plots.style import DARK_COLORS, LIGHT_COLORS, with_style
from nephros.text_tables import EN_DASH, format_number, format_percent, format_timestamp

PNG_DPI = 144
_SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONT_FAMILY = "font-family: 'DejaVu Sans', Verdana, sans-serif"
"""Verdana, of equal width, is for machines without DejaVu."""
_CSS_PIXELS_PER_INCH = 112
"""CSS pixels per inch of a figure on a page."""


def load_template(name: str) -> Template:
    """Return a template, such as `run/run.html`, of this room. Values are escaped; an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("nephros", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"light_colors": LIGHT_COLORS, "dark_colors": DARK_COLORS}  # of page.css
    environment.filters["decimal"] = _decimal
    environment.filters["percent"] = _percent
    environment.filters["command_without_folders"] = command_without_folders
    environment.filters["without_folders"] = without_folders
    environment.filters["timestamp"] = format_timestamp
    return environment.get_template(name)


def _decimal(value: float | None, digits: int = 3) -> str:
    return format_number(value, digits, EN_DASH)


def _percent(fraction: float | None, digits: int = 1) -> str:
    return format_percent(fraction, digits, EN_DASH)


@with_style
def save_figure(figure: Figure, png_file: Path, alt: str) -> Markup:
    """Write `figure` to `png_file` and to an SVG file beside it, and return it as inline SVG for an HTML page.

    The same figure gives the same bytes, without dates or random names. Raises OSError when the folder is not writable.
    """
    text = io.StringIO()
    with warnings.catch_warnings():
        # For class names in a script that the font lacks, browsers and SVG viewers use another font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        with atomic_write(png_file) as file:
            figure.savefig(file, format="png", dpi=PNG_DPI, metadata={"Software": None})
        figure.savefig(text, format="svg", metadata=_SVG_METADATA)
    svg = text.getvalue().replace("font-family: 'DejaVu Sans'", _FONT_FAMILY)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    with atomic_write(png_file.with_suffix(".svg"), "w") as file:
        file.write(svg)
    return inline_svg(svg, png_file.stem, alt)


def inline_svg(svg: str, name: str, alt: str) -> Markup:
    """Return an SVG file's text as an inline element: CSS variables for colors and font, ids that start with `name`.

    Only tags are rewritten, not the text between them, which holds class names of any kind.
    """
    width, height = (float(re.search(rf'\b{side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height"))  # type: ignore[index]
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r">\s+<", "><", body)
    unclaimed_ids = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', body))  # ids that something refers to

    def claim_id(match: re.Match[str]) -> str:
        if match[1] not in unclaimed_ids:
            return ""
        unclaimed_ids.remove(match[1])  # matplotlib repeats the ids of equal shapes: the first serves all
        return f' id="{name}-{match[1]}"'

    def apply_theme(tag: re.Match[str]) -> str:
        text = re.sub(r'\sid="([^"]*)"', claim_id, tag[0])
        text = re.sub(r'href="#|url\(#', lambda match: f"{match[0]}{name}-", text)
        text = re.sub(r"image-rendering: ?[\w-]+;?", "", text)  # smooth; matplotlib asks for "pixelated"
        text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)  # hundredths of a point
        text = text.replace(_FONT_FAMILY, "font-family: var(--sans)")
        for variable, color in LIGHT_COLORS.items():
            text = text.replace(color, f"var(--{variable})")
        return text

    body = re.sub(r"<[^>]*>", apply_theme, body)
    attributes = (
        f'viewBox="0 0 {width:g} {height:g}" style="--natural-width: {round(width / 72 * _CSS_PIXELS_PER_INCH)}px"'
    )
    return Markup(f'<svg class="plot" role="img" aria-label="{escape(alt)}" {attributes}>{body}')
