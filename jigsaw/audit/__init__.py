"""Audit of a puzzle set: the scores of simple rules that do not understand the picture.

The public API::

    audit_puzzles(data, *, limit=500, ...) -> an `Audit`: for each kind of puzzle the score of each shortcut, and chance
"""

from jigsaw.audit.audit import Audit, audit_puzzles

__all__ = ["Audit", "audit_puzzles"]
