"""How a page looks: axe-core in both colour schemes, nothing that sticks out, screenshots."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

AXE = Path(__file__).with_name("axe") / "axe-4.14.1.min.js"


def examine(page: Any) -> None:
    """Let axe-core look at the page, light and dark."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for scheme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = page.evaluate("options => axe.run(document, options)", rules)
        assert found["passes"], "axe-core has looked at nothing"
        serious = [
            (rule["id"], [node["html"] for node in rule["nodes"]])
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], (page.url, scheme)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")


def screenshot(page: Any, name: str) -> None:
    """Save a screenshot of the page if `TUNESMITH_PICTURES` names a folder."""
    folder = os.environ.get("TUNESMITH_PICTURES")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def sticks_out(page: Any) -> list[str]:
    """Return what makes a page wider than the window."""
    found: list[str] = page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            return [...document.querySelectorAll("main *, header *")]
                .filter((it) => it.getBoundingClientRect().right > width + 0.5)
                .filter((it) => !it.closest(".scroll, pre, select"))
                .map((it) => it.outerHTML.slice(0, 120));
        }"""
    )
    return found
