"""How far a large order over HTTP is: what `/v1/orders` answers, and what a client of it gets."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from nonesuch.orders import State


class Tickets(BaseModel):
    """The units of work of an order."""

    made: int
    of: int


class OrderStatus(BaseModel):
    """An order of `/v1/orders`."""

    id: str
    state: Literal["open"] | State
    reason: str = Field(description="Why it ended early; empty if it did not.")
    order: str = Field(description="Names the recipe: the `order` of every row.")
    seed: int
    count: int = Field(description="Images that were ordered.")
    images: int = Field(description="Images that were made so far.")
    tickets: Tickets
    results: Literal["unread", "begun"] = Field(description="Results can be read once; begun says that they are.")
    deadline: datetime
    links: dict[str, str] = Field(description="Where this, its events and its results are.")
