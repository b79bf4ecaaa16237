"""The audit of a puzzle set: how far shortcuts get without understanding any picture.

The public API::

    audit_puzzles(data, *, limit=500, ...) -> per kind of puzzle what each shortcut solves, next to chance
"""

from jigsaw.audit.audit import audit_puzzles

__all__ = ["audit_puzzles"]
