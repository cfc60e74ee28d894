"""How the help of a command looks: paragraphs and lists as written, a short usage line, and no Python types."""

from __future__ import annotations

import re
import textwrap
from argparse import SUPPRESS, Action
from typing import Any

from jsonargparse import DefaultHelpFormatter, Namespace

MAX_USAGE_OPTIONS = 8
"""The usage line names each option if there are no more than this."""


class HelpFormatter(DefaultHelpFormatter):
    """Formats a command's help. In brackets stands what a field of a recipe is where a recipe file leaves it out."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap paragraphs, which blank lines separate, and lists, whose lines are indented: ``  term  description``."""
        lines = []
        for line in re.sub(r"(?<=\S)\n(?=\S)", " ", text.strip()).splitlines():
            term = re.match(r" +\S.*?  +(?=\S)", line)
            if line.startswith(" ") and not term:  # an example, to be copied
                lines.append(line)
            else:
                lines += _wrap(line, width, " " * len(term[0]) if term else "") or [""]
        return "\n".join(lines)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrap(" ".join(text.split()), width)

    def start_section(self, heading: str | None) -> None:
        """Begin a group of options, whose title is wrapped, too."""
        super().start_section(heading and "\n".join(_wrap(heading, self._width - 1)))  # a colon follows

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        visible = [action for action in actions if action.help is not SUPPRESS and action.dest != "help"]
        positionals = [action for action in visible if not action.option_strings]
        options = [action for action in visible if action.option_strings]
        if len(options) <= MAX_USAGE_OPTIONS:
            return str(super()._format_usage(usage, [*options, *positionals], groups, prefix))
        words = [self._prog]
        words += [self._format_args(action, self._get_default_metavar_for_positional(action)) for action in positionals]
        words += [f"{action.option_strings[0]} {action.metavar}" for action in options if action.required]
        return f"usage: {' '.join(words)} [OPTION ...]\n\n"

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        kind: Any = getattr(action, "_typehint", action.type)
        return "N" if kind is int else "X" if kind is float else str(super()._get_default_metavar_for_optional(action))

    def _get_default_metavar_for_positional(self, action: Action) -> str:
        return str(action.metavar or action.dest.upper())

    def _get_help_string(self, action: Action) -> str:
        text = (action.help or "").removesuffix(".")
        if action.required and action.option_strings:
            return f"{text} (required)"
        default = _default_text(action.default)
        return f"{text} [{default}]" if default else text


def _wrap(text: str, width: int, subsequent_indent: str = "") -> list[str]:
    """Return lines of up to `width` characters; unlike argparse's, they keep options such as --no-test in one piece."""
    return textwrap.wrap(text, width, subsequent_indent=subsequent_indent, break_on_hyphens=False)


def _default_text(default: Any) -> str:
    """Return a field's default as it is typed on the command line; nothing for other arguments and empty values."""
    if default is None or default == SUPPRESS or isinstance(default, Namespace | dict):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return ",".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
