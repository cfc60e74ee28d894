"""How many values a YAML text stands for: a few hundred bytes of aliases can stand for billions, so they are counted first."""

from __future__ import annotations

import contextlib

import yaml

MAX_YAML_VALUES = 10_000
"""Values in a file of settings, each alias counted with all that it stands for."""


def count_values(root: yaml.Node) -> int:
    """Return how many values a YAML node stands for, without expanding its aliases; above MAX_YAML_VALUES for a loop."""
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
    """Count the values of a string, which is parsed as YAML again where a field is no string."""
    if node.style is not None and "*" in node.value and "&" in node.value:
        with contextlib.suppress(yaml.YAMLError):
            inner = yaml.compose(node.value, yaml.SafeLoader)
            return 1 if inner is None else count_values(inner)
    return 1
