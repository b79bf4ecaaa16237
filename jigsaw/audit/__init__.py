"""The audit of a puzzle set: how far shortcuts get without understanding any picture.

The public API::

    audit_puzzles(data, *, limit=500, ...) -> an `Audit`: per kind of puzzle how far each shortcut gets, next to chance
"""

from jigsaw.audit.audit import Audit, audit_puzzles

__all__ = ["Audit", "audit_puzzles"]
