"""The `jigsaw` command: one file per subject, options and no logic. Heavy imports happen inside the commands."""
