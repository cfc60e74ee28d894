"""The pages' templates, and how they write numbers."""

from __future__ import annotations

import math

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nephros.reporting.plots.style import LIGHT_COLORS

MISSING = "\N{EN DASH}"
"""Stands for a number that there is not."""


def load_template(name: str) -> Template:
    """Return a template of this folder; what it is given is escaped, and a name that it is not given is an error."""
    environment = Environment(
        loader=PackageLoader("nephros", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["light_colors"] = LIGHT_COLORS  # of page.css
    environment.filters["decimal"] = decimal
    environment.filters["percent"] = percent
    return environment.get_template(name)


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, or a dash for what could not be computed."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share of 1 in percent, without the sign, or a dash."""
    return MISSING if value is None else f"{100 * value:.{digits}f}"
