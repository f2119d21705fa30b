# %% [markdown]
# # Baseball or hockey?
#
# The guide's classification case up to the point where training starts: explore the data, see
# what a class costs in tokens, prepare the rows, split them. (docs/notebooks/classification.ipynb
# goes on to the model and its answers.) The data are the two sports groups
# of 20 Newsgroups. Get them once with
#
#     python scripts/fetch_datasets.py data
#
# and run this file cell by cell (`# %%` marks a cell for editors and Jupytext) or as a whole:
#
#     python docs/examples/baseball_or_hockey.py data/baseball-hockey.csv

# %%
from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tunesmith import datasets
from tunesmith.datasets import tokens

SOURCE = Path(sys.argv[1] if len(sys.argv) > 1 else "data/baseball-hockey.csv")

# %% [markdown]
# ## Explore
#
# A data set remembers where each of its rows stands, so that every finding names a line.

# %%
posts = datasets.read(SOURCE)
print(f"{len(posts):,} posts:", dict(Counter(row.value["completion"] for row in posts)))
first = posts.rows[0]
print(f"line {first.line}: {first.value['prompt'][:70]}… → {first.value['completion']}")

# %%
print(posts.check(max_examples=2))

# %% [markdown]
# ## What a class costs
#
# Most tokens of the vocabulary begin with a space. With the space, each class is one token: the
# answer is complete after `max_tokens=1`, and `logprobs` holds a probability for each class.
# Without it, both are two tokens, and the first of the two says little.

# %%
encoder = tokens.encoder("r50k_base")
for label in ("baseball", " baseball", "hockey", " hockey"):
    print(f"{label!r:12} {encoder.encode(label)}")

# %% [markdown]
# ## Prepare
#
# The plan says what it would change, how often and why, before it does anything. Each step can be
# left out: `plan.disable("drop-long-rows")`.

# %%
plan = posts.plan()
for fix in plan.fixes:
    if fix.count:
        print(f"{fix.id}: {fix.count:,} rows. {fix.description}.")
prepared = plan.apply()
print(prepared.check())

# %% [markdown]
# ## Split
#
# The same rows always fall on the same side, both classes keep their shares, and posts that quote
# each other stay together, so that validation asks about posts that training has not seen.

# %%
training, validation = prepared.split(validation=0.2)
for name, part in (("train", training), ("validation", validation)):
    shares = Counter(row.value["completion"].strip() for row in part)
    path = part.write(SOURCE.with_name(f"baseball-hockey-{name}.jsonl"))
    print(f"{path}: {len(part):,} rows, {dict(shares)}")
overlap = training.check(validation=validation).errors
print("shared rows:", overlap or "none")

# %% [markdown]
# ## What inference will need
#
# The format was saved beside the training rows, and an engine that trains on them knows it. These
# are the request's parameters that belong to it.

# %%
form = prepared.prompt_format
if form is not None:
    print(form)
    print(form.inference_parameters(classes=["baseball", "hockey"]))
