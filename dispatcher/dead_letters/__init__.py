"""Dead letters as people ask for them.

selecting    what is known of each, and which of them are wanted
acting       replaying and purging, in the order that loses nothing
saving       a dead letter as a line of JSON, whole
"""

from __future__ import annotations

from dispatcher.dead_letters.selecting import Found, Letter, Selection, find, matching, read

__all__ = ["Found", "Letter", "Selection", "find", "matching", "read"]
