"""The wire to Redis: what goes over it, under which names (`keys`, `lua/`), and how long its absence is waited out.

Its front door is here; `patience` and `users` have their own.
"""

from nonesuch.link.commands import Call, script
from nonesuch.link.connection import AsyncLink, Link, check_writable
from nonesuch.link.keys import Keys

__all__ = ["AsyncLink", "Call", "Keys", "Link", "check_writable", "script"]
