"""Visual Jigsaw: RL post-training of vision-language models on puzzles that need no labels.

`jigsaw.data` builds and loads puzzle sets, `jigsaw.models` opens checkpoints, `jigsaw.training` trains,
`jigsaw.evaluation` measures and reports, `jigsaw.run` runs a recipe, `jigsaw.cli` is the command. The puzzles
themselves are in `jigsaw.tasks`, their scoring in `jigsaw.rewards`. Importing this package imports nothing else.
"""
