"""Charts of a report: which curves are shown, and how they are drawn."""
