"""Answers that are orders: a permutation of 1..K, as the jigsaw tasks ask for.

Parser and score are exactly those of `visual_jigsaw`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import AnswerKind, Read
from jigsaw.rewards.chance import chance_order_reward
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.orders import check_answer
from jigsaw.rewards.parse import REASONS, read_order
from jigsaw.rewards.visual_jigsaw import order_reward

MOST_EQUIVALENTS = 1000


@dataclass(frozen=True, kw_only=True)
class Order(AnswerKind):
    """The right order of K pieces.

    Attributes:
        num_pieces: K.
        classes: one class number per shown piece; pieces of a class may be exchanged.
        discount, min_pieces_for_partial: partial credit, as in `visual_jigsaw`.

    >>> Order(num_pieces=3).parse("2, 3, 1", "direct").value
    [2, 3, 1]
    """

    name: ClassVar[str] = "order"
    REASONS: ClassVar[tuple[str, ...]] = REASONS
    LONGEST: ClassVar[int | None] = None

    num_pieces: int
    classes: tuple[int, ...] | None = None
    discount: float = 0.2
    min_pieces_for_partial: int = 1

    def check(self, answer: Any) -> None:
        """Refuse an answer that is not a permutation of 1..K."""
        if not isinstance(answer, Sequence) or isinstance(answer, str) or len(answer) != self.num_pieces:
            raise RewardError(
                f"answer {answer!r} is not an order of {self.num_pieces} pieces; build the data set again"
            )
        check_answer(answer, self.classes)

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """The permutation."""
        return read_order(answer, self.num_pieces, typeset=typeset)

    def write(self, answer: Any) -> str:
        """`2, 3, 1`."""
        return ", ".join(map(str, answer))

    def score(self, value: Any, answer: Any) -> float:
        """The paper's order reward: 1 for the right order, else the discounted fraction of right places."""
        partial = {"discount": self.discount, "min_pieces_for_partial": self.min_pieces_for_partial}
        return order_reward(value, answer, self.classes, **partial)  # type: ignore[arg-type]

    def chance(self, answer: Any) -> float:
        """The mean score of a random permutation."""
        return chance_order_reward(
            self.num_pieces,
            self.classes,
            discount=self.discount,
            min_pieces_for_partial=self.min_pieces_for_partial,
        )

    def equivalents(self, answer: Any) -> list[list[int]]:
        """The orders that differ from the answer by exchanged pieces of a class, at most a thousand."""
        if self.classes is None:
            return [list(answer)]
        classes = self.classes
        groups = [[piece for piece in answer if classes[piece - 1] == number] for number in dict.fromkeys(classes)]
        orders = [list(answer)]
        for group in groups:
            orders = [
                [dict(zip(group, other, strict=True)).get(piece, piece) for piece in order]
                for order in orders
                for other in islice(permutations(group), MOST_EQUIVALENTS)
            ][:MOST_EQUIVALENTS]
        return orders
