"""Public API of the rewards: parsing and scoring of completions, and lookup of built-in and third-party rewards.

`parse_order` reads the order in a completion, `place_accuracy` and the other scores rate an order, `visual_jigsaw` (or
any plug-in through `get_reward`) returns the rewards of a batch, and a `Composition` combines the entries of a recipe.
The package is cheap to import: it does not import tasks/, torch or numpy, and of jigsaw/ only errors and plug-ins.

>>> from jigsaw.rewards import get_reward, parse_order
>>> parse_order("<think>the sky is on top</think><answer>2, 3, 1</answer>", 3).order
[2, 3, 1]
>>> get_reward("visual_jigsaw")(["<think>the sky</think><answer>2, 3, 1</answer>"], [[2, 3, 1]])
[1.2]
"""

from jigsaw.rewards.chance import (
    chance_exact,
    chance_kendall_tau,
    chance_neighbor_accuracy,
    chance_order_reward,
    chance_place_accuracy,
)
from jigsaw.rewards.completions import completion_text, parsed_rows
from jigsaw.rewards.compose import Component, Composition
from jigsaw.rewards.describe import RewardInfo, check_reward, describe_reward, list_rewards
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.orders import (
    exact,
    footrule,
    kendall_tau,
    longest_run,
    neighbor_accuracy,
    place_accuracy,
    smoothed,
    true_places,
)
from jigsaw.rewards.parse import ANSWER_STYLES, REASONS, ParsedOrder, find_order, format_order, parse_order
from jigsaw.rewards.plugin import metric, reward
from jigsaw.rewards.registry import get_metric, get_reward
from jigsaw.rewards.scores import grid_of
from jigsaw.rewards.spec import RewardSpec
from jigsaw.rewards.synthetic import synthetic_columns
from jigsaw.rewards.visual_jigsaw import order_reward, visual_jigsaw

__all__ = [
    "ANSWER_STYLES",
    "REASONS",
    "Component",
    "Composition",
    "ParsedOrder",
    "RewardError",
    "RewardInfo",
    "RewardSpec",
    "chance_exact",
    "chance_kendall_tau",
    "chance_neighbor_accuracy",
    "chance_order_reward",
    "chance_place_accuracy",
    "check_reward",
    "completion_text",
    "describe_reward",
    "exact",
    "find_order",
    "footrule",
    "format_order",
    "get_metric",
    "get_reward",
    "grid_of",
    "kendall_tau",
    "list_rewards",
    "longest_run",
    "metric",
    "neighbor_accuracy",
    "order_reward",
    "parse_order",
    "parsed_rows",
    "place_accuracy",
    "reward",
    "smoothed",
    "synthetic_columns",
    "true_places",
    "visual_jigsaw",
]
