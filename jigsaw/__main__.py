"""`python -m jigsaw` is the `jigsaw` command."""

from jigsaw.cli.command import main

main()
