"""The whole job, once through, on real data: the story that `tunesmith quickstart` tells.

`tweets` brings the data, `story` runs the steps, `evaluate` asks the models, `snippet`
holds the lines of Python that do the same. This room stands on top of all others, the
command line's output among them; nothing imports it but the command.
"""
