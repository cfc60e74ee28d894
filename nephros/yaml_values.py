"""YAML text as plain values: no repeated keys, no impossible dates and numbers, and no more values than settings have."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml

from nephros.reading import MAX_INTEGER, MalformedContent, shorten

MAX_YAML_BYTES = 1 << 16
"""Larger files of settings are refused before they are parsed."""
MAX_YAML_VALUES = 10_000
"""Values in a file of settings, each alias counted with all that it stands for."""


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text of plain values; MalformedContent for repeated keys, huge numbers or too many values."""
    try:
        loader = _StrictLoader(text)
        root = loader.get_single_node()
        if root is not None and count_values(root) > MAX_YAML_VALUES:
            raise MalformedContent(
                f"it stands for more than {MAX_YAML_VALUES:,} values, each alias (*name) counted with all that it stands for"
            )
        return None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise MalformedContent(f"it is not YAML text{f', see line {mark.line + 1}' if mark else ''}") from None
    except yaml.YAMLError:
        raise MalformedContent("it is not YAML text") from None
    except ValueError as error:  # a date such as 2026-13-45, or a number of 5,000 digits
        if isinstance(error, MalformedContent):
            raise
        raise MalformedContent("a date or a number in it is impossible") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader without repeated keys, whose first value would be lost silently, and without huge numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if repeated := [key for i, key in enumerate(keys) if key in keys[:i]]:
            raise MalformedContent(f"'{shorten(repeated[0])}' appears twice, see line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number = super().construct_yaml_int(node)
        if abs(number) > MAX_INTEGER:  # Python doesn't even write one of more than 4,300 digits
            raise MalformedContent(f"it holds a whole number beyond 2^63, see line {node.start_mark.line + 1}")
        return number


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def count_values(root: yaml.Node) -> int:
    """Return how many values a YAML node stands for, without expanding its aliases; above MAX_YAML_VALUES for a loop.

    A few hundred bytes of aliases can stand for billions of values, so they are counted first.
    """
    counts: dict[int, int] = {}

    def count(node: yaml.Node) -> int:
        if id(node) not in counts:
            counts[id(node)] = MAX_YAML_VALUES + 1  # while it is being counted: an alias of itself is a loop
            if isinstance(node, yaml.ScalarNode):
                counts[id(node)] = _count_in_scalar(node)
            elif isinstance(node, yaml.SequenceNode):
                counts[id(node)] = 1 + sum(map(count, node.value))
            else:
                counts[id(node)] = 1 + sum(count(key) + count(value) for key, value in node.value)
        return counts[id(node)]

    return count(root)


def _count_in_scalar(node: yaml.ScalarNode) -> int:
    """Count the values of a string, which is parsed as YAML again where a field is not a string."""
    if node.style is not None and "*" in node.value and "&" in node.value:
        with contextlib.suppress(yaml.YAMLError):
            inner = yaml.compose(node.value, yaml.SafeLoader)
            return 1 if inner is None else count_values(inner)
    return 1
