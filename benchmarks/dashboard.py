"""The dashboard in a real Chromium: the first paint of a cold engine, and pages of 1,000 jobs.

Usage: python benchmarks/dashboard.py [--jobs 1000] [--steps 200] [--rounds 5]

Prints, for each page, the time until its HTML has arrived and until something of it is painted
(First Contentful Paint), the median and the worst of the rounds. The budget is a second. Needs
Chromium and playwright, and no model.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tunesmith.engine import Home, start
from tunesmith.engine.store import job_queries
from tunesmith.engine.store.database import Database
from tunesmith.engine.store.records import JobRow
from tunesmith.engine.store.schema import events

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
BUDGET_SECONDS = 1.0


def fill(home: Home, jobs: int, steps: int) -> None:
    """Put jobs with their steps into the database of a home."""
    database = Database(f"sqlite:///{home.database}")
    database.migrate()
    now = time.time()
    with database.write() as connection:
        for number in range(jobs):
            row = JobRow(
                id=f"job{number:05}",
                api="fine-tuning",
                organization="local",
                created_at=now - 60 * number,
                updated_at=now,
                status="succeeded",
                model="tiny",
                base_model="tiny",
                family="tiny",
                training_file="file-none",
                seed=0,
                method="supervised",
                requested_hyperparameters={"n_epochs": number % 5 + 1},
                metadata={"tags": f"sweep {number % 7}"},
                suffix=f"run {number}",
                total_steps=steps,
                steps_done=steps,
                trained_tokens=1000,
                finished_at=now,
                event_count=steps,
            )
            job_queries.insert_job(connection, row)
            connection.execute(
                events.insert(),
                [
                    {
                        "job_id": row.id,
                        "sequence": step,
                        "id": f"e{number}-{step}",
                        "key": f"step:{step}",
                        "created_at": now,
                        "level": "info",
                        "kind": "step",
                        "data": {"step": step, "train_loss": 3 / step, "total_steps": steps},
                    }
                    for step in range(1, steps + 1)
                ],
            )
    database.close()


def painted(browser: Browser, address: str) -> tuple[float, float]:
    """Return the seconds until a page's HTML had arrived, and until something was painted."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.wait_for_function(
        "() => performance.getEntriesByName('first-contentful-paint').length > 0"
    )
    times: Any = page.evaluate(
        """() => [
            performance.getEntriesByType('navigation')[0].responseEnd,
            performance.getEntriesByName('first-contentful-paint')[0].startTime,
        ]"""
    )
    context.close()
    return times[0] / 1000, times[1] / 1000


def report(name: str, times: list[tuple[float, float]]) -> None:
    html, paint = zip(*times, strict=True)
    verdict = "within" if statistics.median(paint) < BUDGET_SECONDS else "ABOVE"
    print(
        f"{name:<28} HTML {statistics.median(html):6.3f} s   first paint "
        f"{statistics.median(paint):6.3f} s (worst {max(paint):.3f})   {verdict} the budget"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        cold = []
        for number in range(min(3, arguments.rounds)):
            home = Path(folder) / f"cold{number}"
            home.mkdir()
            with start(home) as engine:
                cold.append(painted(browser, engine.base_url.removesuffix("/v1")))
        report("cold engine, first page", cold)
        home = Path(folder) / "full"
        home.mkdir()
        fill(Home(home), arguments.jobs, arguments.steps)
        ids = [f"job=ftjob-job{number:05}" for number in range(12)]
        pages = {
            f"list of {arguments.jobs:,} jobs": "/",
            "search by tag": "/?text=sweep+3",
            "oldest page of the list": f"/?before=job{arguments.jobs - 40:05}",
            "one job": "/jobs/ftjob-job00000",
            "comparison of 12 jobs": "/compare?" + "&".join(ids),
            "new job": "/new-job",
            "models": "/models",
            "playground": "/playground",
        }
        with start(home) as engine:
            origin = engine.base_url.removesuffix("/v1")
            for name, path in pages.items():
                report(name, [painted(browser, origin + path) for _ in range(arguments.rounds)])
        browser.close()


if __name__ == "__main__":
    main()
