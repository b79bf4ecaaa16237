"""The test kit of plug-in authors: does a task, a reward or a model family keep its contract?

In a test file of your own::

    from jigsaw.testing import assert_reward, assert_task

    def test_my_task_keeps_the_contract():
        assert_task("my_tasks.py:Mine", grid="2x2")

    def test_my_reward_keeps_the_contract():
        assert_reward("my_rewards.py:brevity", limit=50)

`check_task` and `check_reward` give the same findings as data; `jigsaw tasks check` and `jigsaw rewards check` print
them. Our own tasks and rewards are held to the same checks. `assert_family` and `check_family` do so for a model
family, on a tiny model from random weights or on a checkpoint.
"""

from jigsaw.testing.family_contract import PROPERTIES as FAMILY_PROPERTIES
from jigsaw.testing.family_contract import assert_family, check_family
from jigsaw.testing.findings import ContractError, Finding, findings_table
from jigsaw.testing.made_sources import write_sources
from jigsaw.testing.reward_contract import assert_reward, check_reward
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
