"""Sample sources: photos, video clips and rendered RGB-D scenes that anyone can build puzzles from."""
