"""Results of every command that measures something.

| file | purpose |
|---|---|
| `intervals.py` | means with 95% intervals over sources, and the test of a difference |
| `chance.py` | the level of random answers |
| `sampling.py` | pass@k and the majority vote |
| `log_file.py` | the JSON files of results, with their command and versions |
| `tables.py` | tables of results in Markdown, LaTeX, CSV and JSON |
| `formatting.py` | numbers as text |
"""
