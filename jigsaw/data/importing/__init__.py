"""`jigsaw import`: turns the puzzle sets and question sets of other projects into puzzle sets."""
