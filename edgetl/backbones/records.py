"""Where a net's first weights come from, as written to JSON. Light."""

from __future__ import annotations

from typing import TypedDict

# Written as a call because "from" is a keyword. Which keys there are depends on the source. weights: "imagenet", "file",
# "teacher" or "none". from, how, why: in words. fetch_failed: a download failed and may succeed another day.
WeightsSource = TypedDict(
    "WeightsSource",
    {
        "weights": str,
        "from": str,
        "how": str,
        "why": str,
        "file": str,
        "sha256": str,
        "trained_at_px": int,
        "used_at_px": int,
        "fetch_failed": bool,
    },
    total=False,
)


class WeightsKey(TypedDict, total=False):
    """First weights in the cache key of their step. weights: "imagenet", "file" or "none". local, file: the file's name."""

    weights: str
    local: str
    file: str
    sha256: str
