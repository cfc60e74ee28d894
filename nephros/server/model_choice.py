"""The models among which a request may choose by name; all but the default one are opened when they are asked for first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nephros.errors import did_you_mean
from nephros.inference.model_card import ModelCard
from nephros.inference.predictor import Predictor
from nephros.server.limits import RequestRejected
from nephros.server.model_info import model_info
from nephros.server.schemas import ModelChoiceInfo
from nephros.server.service import Service


@dataclass(frozen=True)
class ModelEntry:
    """A further model."""

    name: str
    card: ModelCard
    open: Callable[[], Predictor]


class ModelChoice:
    """The default model, and further ones."""

    def __init__(self, name: str, service: Service, entries: Sequence[ModelEntry] = ()) -> None:
        """Take the default model's name and service, and the others."""
        self._default, self._entries = name, {entry.name: entry for entry in entries}
        self._services = {name: service}
        self._opening = asyncio.Lock()

    def infos(self) -> list[ModelChoiceInfo]:
        """Describe all models, the default one first."""
        default = self._services[self._default].predictor.card
        cards = {self._default: default} | {name: entry.card for name, entry in self._entries.items()}
        return [
            ModelChoiceInfo(
                name=name,
                title=card["data"]["title"],
                class_names=list(card["class_names"]),
                test_accuracy=card["test_accuracy"],
                model=model_info(card),
                default=name == self._default,
            )
            for name, card in cards.items()
        ]

    async def service(self, name: str | None) -> Service:
        """Return the service of a model, by default of the default one; RequestRejected if there is none of this name."""
        name = self._default if name is None else name
        if name in self._services:
            return self._services[name]
        if name not in self._entries:
            known = [self._default, *self._entries]
            hint = did_you_mean(name, known) or f" Use {', '.join(known)}."
            raise RequestRejected(404, f"The server offers no model of this name.{hint}")
        async with self._opening:
            if name not in self._services:
                predictor = await asyncio.to_thread(self._entries[name].open)
                self._services[name] = self._services[self._default].with_predictor(predictor)
        return self._services[name]

    def close(self) -> None:
        """Stop all services, the default one last, since the others share its threads."""
        for service in reversed(self._services.values()):
            service.close()
