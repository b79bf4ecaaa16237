"""The one error that the `jigsaw` command turns into a single line: what is wrong, where, and what to do."""


class JigsawError(Exception):
    """Wrong input or environment, told in one line for the user. Anything else that is raised is a bug."""
