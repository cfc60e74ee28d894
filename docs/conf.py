"""The site of documents: ``make docs`` builds it into docs/_build, with warnings as errors and nothing from other hosts."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from sphinx.application import Sphinx

from nephros.environment import __version__

project = "nephros"
author = "The nephros developers"
project_copyright = "The nephros developers, Apache License 2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "command_help",
    "recipe_table",
]
exclude_patterns = ["_build", "_extensions"]
default_role = "code"
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]

autodoc_typehints = "none"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "nephros"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {name: [] for name in ("index", "install", "medmnist", "nuclei")}
html_theme_options = {
    "logo": {"text": "nephros"},
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def examples_as_code(_app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Mark what a docstring indents below its first paragraphs as code; its sections (Args, Raises) are napoleon's."""
    for number, line in enumerate(lines):
        if line.endswith(":") and not line.startswith(" "):
            return
        if line.startswith("    ") and number and not lines[number - 1].strip():
            lines[number:number] = ["::", ""]
            return


def setup(app: Sphinx) -> None:
    """Let `examples_as_code` see each docstring before napoleon does."""
    app.connect("autodoc-process-docstring", examples_as_code, priority=400)
