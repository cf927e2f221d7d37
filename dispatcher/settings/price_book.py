"""Prices as data: what container groups and nodes cost by region, when that was read, and what commitments take off.

Decides what a price book may say and how the operator's own is laid over the shipped one. A price that is missing or
zero is a mistake here: money that is reckoned with nothing bounds nothing. Knows nothing of what is done with prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from dispatcher.core.pricing import NodePrice, Rates
from dispatcher.core.units import Money, Resources
from dispatcher.settings.mistakes import Mistake, did_you_mean, translate
from dispatcher.settings.tasks import Section
from dispatcher.settings.values import Cpu, Memory, PositiveUsd
from dispatcher.settings.yaml_file import YamlFile, parse_yaml, read_yaml

T = TypeVar("T")
SHIPPED = "azure_prices.yaml"
PAY_AS_YOU_GO = "pay_as_you_go"
DEFAULT_REGION = "default"
Share = Annotated[Decimal, Field(gt=0, le=100, examples=["60"])]
"""What is paid of a list price, in percent."""


class BadPriceBook(ValueError):
    """A price book that cannot be used; the text reads "what is wrong; what to write instead"."""


class GroupPrices(Section):
    """What container groups cost in a region."""

    cpu_second_usd: PositiveUsd
    """Dollars for one vCPU for one second."""
    gb_second_usd: PositiveUsd
    """Dollars for one GB of memory for one second."""


class RegionPrices(Section):
    """One region: its prices, when they were read, and where."""

    as_of: date
    """The day on which they were read."""
    source: str = ""
    """Where."""
    virtual_node: GroupPrices | None = None
    """Container groups; empty: no reading."""
    nodes: dict[str, PositiveUsd] = Field(default_factory=dict)
    """Dollars for one hour of a node, by its size."""


class SizeOfNode(Section):
    """What pods may request of one node of that size."""

    cpu: Cpu
    memory: Memory

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if not self.cpu or not self.memory:
            raise ValueError("a node without processor or memory holds no pod; write what pods may request of it")
        return self


class Plans(Section):
    """Commitments, by name: what is paid of the list price, in percent."""

    virtual_node: dict[str, Share] = Field(default_factory=dict)
    nodes: dict[str, Share] = Field(default_factory=dict)


class PriceBook(Section):
    """All that is known of prices."""

    format: Literal[1]
    regions: dict[str, RegionPrices] = Field(default_factory=dict)
    sizes: dict[str, SizeOfNode] = Field(default_factory=dict)
    plans: Plans = Plans()

    def over(self, below: PriceBook) -> PriceBook:
        """This book where it says something, the other for the rest."""
        return PriceBook(
            format=1,
            regions={**below.regions, **self.regions},
            sizes={**below.sizes, **self.sizes},
            plans=Plans(
                virtual_node={**below.plans.virtual_node, **self.plans.virtual_node},
                nodes={**below.plans.nodes, **self.plans.nodes},
            ),
        )

    def region(self, name: str) -> RegionPrices:
        """The prices of a region. Raises BadPriceBook."""
        return _named(name, self.regions, "region")

    def rates(self, region: str, plan: str) -> Rates:
        """What a group costs there under that plan. Raises BadPriceBook."""
        share = _named(plan, self.plans.virtual_node, "plan for the virtual node")
        prices = self.region(region).virtual_node
        if prices is None:
            fault = f"there is no price of container groups in {region}"
            raise BadPriceBook(f"{fault}; write it into prices.file, or per_cpu_second_usd and per_gb_second_usd")
        return Rates(_paid(prices.cpu_second_usd, share), _paid(prices.gb_second_usd, share))

    def node(self, region: str, size: str, plan: str) -> NodePrice | None:
        """What a node of that size costs there under that plan; None: no reading. Raises BadPriceBook."""
        share = _named(plan, self.plans.nodes, "plan for nodes")
        room, price = _named(size, self.sizes, "size of node"), self.region(region).nodes.get(size)
        if price is None:
            return None
        return NodePrice(size, _paid(price, share), Resources(room.cpu, room.memory))


def _paid(usd: Decimal, percent: Decimal) -> Money:
    return Money.from_usd(usd * percent / 100)


def _named(name: str, known: Mapping[str, T], what: str) -> T:
    found = known.get(name)
    if found is None:
        raise BadPriceBook(f"there is no {what} {name!r}; {did_you_mean(name, known)}")
    return found


@cache
def shipped() -> PriceBook:
    """The book that comes with the product."""
    text = (files("dispatcher.settings") / SHIPPED).read_text(encoding="utf-8")
    return _book(parse_yaml(SHIPPED, text))


def price_book(path: Path | None) -> PriceBook:
    """The shipped book, and over it the operator's own, if any. Raises BadPriceBook with the first mistake."""
    return shipped() if path is None else _book(read_yaml(path)).over(shipped())


def _book(file: YamlFile) -> PriceBook:
    if file.mistakes:
        raise BadPriceBook(_sentence(file.mistakes[0]))
    try:
        return PriceBook(**dict(file.data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadPriceBook(_sentence(translate(first, PriceBook, file.place))) from None


def _sentence(mistake: Mistake) -> str:
    """A mistake of the file within one of the configuration: where, what; the remedy."""
    where = f"{mistake.place}: " if mistake.place else ""
    return f"{where}{mistake.path} {mistake.fault}; {mistake.remedy or 'correct the file'}"
