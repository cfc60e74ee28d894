"""The templates of the pages."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nephros.reporting.plots.style import LIGHT_COLORS
from nephros.text_tables import EN_DASH, format_number, format_percent


def load_template(name: str) -> Template:
    """Return a template of this folder. Values are escaped; an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("nephros", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["light_colors"] = LIGHT_COLORS  # of page.css
    environment.filters["decimal"] = _decimal
    environment.filters["percent"] = _percent
    return environment.get_template(name)


def _decimal(value: float | None, digits: int = 3) -> str:
    return format_number(value, digits, EN_DASH)


def _percent(fraction: float | None, digits: int = 1) -> str:
    return format_percent(fraction, digits, EN_DASH)
