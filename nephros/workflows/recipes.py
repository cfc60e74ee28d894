"""The table of recipes."""

from __future__ import annotations

from rich.table import Table

from nephros.console import table_console
from nephros.models import build_network
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.models.input_spec import InputSpec
from nephros.presets import RECIPES

TISSUEMNIST_SPEC = InputSpec(channels=1, height=28, width=28, n_classes=8)


def print_recipes() -> None:
    """Print each recipe's name, network, epochs, parameters, multiply-adds at 28x28 grey and 8 classes, and source."""
    table = Table(title="recipes (parameters and multiply-adds for 28x28 grey images and 8 classes)")
    for heading in ("name", "network", "epochs", "parameters", "multiply-adds", "where it comes from"):
        table.add_column(heading, justify="right" if heading in ("epochs", "parameters", "multiply-adds") else "left")
    for recipe in RECIPES.values():
        cost = ("-", "-", "-")  # a classical baseline's depend on the data
        if not recipe.is_classical:
            network = build_network(recipe.model, TISSUEMNIST_SPEC)
            cost = (
                f"{recipe.epochs}",
                f"{count_parameters(network):,}",
                f"{count_multiply_adds(network, TISSUEMNIST_SPEC):,}",
            )
        table.add_row(recipe.name, recipe.model.network, *cost, recipe.source)
    table_console().print(table)
