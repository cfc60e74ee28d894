"""The pages' templates, and how they write numbers."""

from __future__ import annotations

import math

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from nephros.reporting.plots.style import LIGHT

NONE = "\N{EN DASH}"
"""Stands for a number that there is not."""


def template(name: str) -> Template:
    """Return a template of this folder; what it is given is escaped, and a name that it is not given is an error."""
    environment = Environment(
        loader=PackageLoader("nephros", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["light"] = LIGHT  # of page.css
    environment.filters["figure"] = figure
    environment.filters["share"] = share
    return environment.get_template(name)


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, or a dash for what could not be computed."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share of 1 in percent, without the sign, or a dash."""
    return NONE if value is None else f"{100 * value:.{digits}f}"
