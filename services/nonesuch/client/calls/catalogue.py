"""The calls that say what a service has to offer, and what it is doing."""

from urllib.parse import quote

from pydantic import BaseModel

from nonesuch.client.calls.base import BaseCalls
from nonesuch.effects import Op
from nonesuch.offers import GeneratorInfo, StrategyInfo
from nonesuch.stats import Stats


class _Generators(BaseModel):
    generators: tuple[GeneratorInfo, ...]


class _Strategies(BaseModel):
    strategies: tuple[StrategyInfo, ...]


class CatalogueCalls(BaseCalls):
    """The calls for generators, strategies, and the service's numbers."""

    def generators(self) -> Op[tuple[GeneratorInfo, ...]]:
        """What generators are hosted, sorted by id, without their cards."""
        return (yield from self.get(_Generators, "/v1/generators")).generators

    def generator(self, generator_id: str) -> Op[GeneratorInfo]:
        """The generator of that id, with its card. Raises `GeneratorNotFound`, which names those that are there."""
        return (yield from self.get(GeneratorInfo, f"/v1/generators/{quote(generator_id, safe='')}"))

    def strategies(self) -> Op[tuple[StrategyInfo, ...]]:
        """How latents can be chosen, each with the JSON Schema of its parameters; sorted by name."""
        return (yield from self.get(_Strategies, "/v1/strategies")).strategies

    def stats(self) -> Op[Stats]:
        """What the service is doing at this moment."""
        return (yield from self.get(Stats, "/v1/stats"))
