"""A model trained on A and then continued on B knows both, measured on real data in minutes.

A are tweets (positive or negative), B posts about sport (baseball or hockey). Three models are
trained on all layers: A, B alone from the base model, and A continued on B at half the rate;
each is tested on rows of both that none has seen. `training_cases.py` does the same with all rows.

    python benchmarks/continued.py [--home FOLDER] [--rows 640 320] [--held-out 200]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from training_cases import Case, Silent, accuracy, posts, specification, tweets

from tunesmith.engine.home import Home
from tunesmith.engine.models.pull import pull
from tunesmith.engine.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--home", type=Path, default=Path("build") / "training-cases")
    parser.add_argument("--rows", type=int, nargs=2, default=(480, 240), help="of A and of B")
    parser.add_argument("--held-out", type=int, default=150, help="rows of each to test with")
    arguments = parser.parse_args()
    home = Home(arguments.home.absolute())
    base = pull("smollm2-135m-instruct", home).path
    rated = tweets(home)
    rows = {"A": rated[arguments.held_out :], "B": posts(home, "train")}
    held_out = (rated[: arguments.held_out], posts(home, "test")[: arguments.held_out])
    limits = dict(zip(rows, arguments.rows, strict=True))
    print(f"{'trained on':12} {'rows':>5} {'right on A':>11} {'right on B':>11} {'CPU s':>7}")

    trained: dict[str, Path] = {}
    for name, start in (("A", None), ("B", None), ("A then B", "A")):
        data = name[-1]
        case = Case(name, data, limits[data], "lora", start)
        chosen = rows[data][: case.limit]
        spec = specification(home, base, case, chosen, trained.get(start or ""))
        before = time.process_time()
        output = train(spec, Silent()).output_path
        seconds = time.process_time() - before
        assert output is not None
        trained[name] = output
        right = [accuracy(base, output, part) for part in held_out]
        print(
            f"{name:12} {len(chosen):5} {right[0]:11.3f} {right[1]:11.3f} {seconds:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
