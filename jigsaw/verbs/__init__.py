"""The verbs of the `jigsaw` command, by subject: options and no logic. Heavy imports happen inside the verbs."""
