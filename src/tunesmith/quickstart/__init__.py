"""`tunesmith quickstart`: the whole workflow on real data, from download to evaluation.

`command` defines the command, `workflow` runs the steps, `tweets` provides the data,
`evaluate` queries the models, `snippet` holds the lines of Python that do the same. This
package is the top layer: it uses the command line's output, and no module imports it.
"""
