"""The `jigsaw` command: one file per subject, with options but no logic. Commands import heavy libraries themselves."""
