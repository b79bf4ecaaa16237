"""Contract checks for authors of tasks, rewards and model families.

In a test file::

    from jigsaw.testing import assert_reward, assert_task

    def test_my_task_keeps_the_contract():
        assert_task("my_tasks.py:Mine", grid="2x2")

    def test_my_reward_keeps_the_contract():
        assert_reward("my_rewards.py:brevity", limit=50)

`check_task` and `check_reward` return the findings; `jigsaw tasks check` and `jigsaw rewards check` print them. The
built-in tasks and rewards pass the same checks. `assert_family` and `check_family` check a model family, on a tiny
model with random weights or on a checkpoint.
"""

from jigsaw.testing.family_contract import PROPERTIES as FAMILY_PROPERTIES
from jigsaw.testing.family_contract import assert_family, check_family
from jigsaw.testing.findings import ContractError, Finding, findings_table
from jigsaw.testing.reward_contract import assert_reward, check_reward
from jigsaw.testing.synthetic_sources import write_sources
from jigsaw.testing.task_contract import assert_task, check_task

__all__ = [
    "FAMILY_PROPERTIES",
    "ContractError",
    "Finding",
    "assert_family",
    "assert_reward",
    "assert_task",
    "check_family",
    "check_reward",
    "check_task",
    "findings_table",
    "write_sources",
]
