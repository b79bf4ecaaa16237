"""Charts of a report: which curves there are, how they are drawn, and their files."""
