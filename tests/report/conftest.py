"""The page of the made-up report, for every section's tests."""

from __future__ import annotations

import pytest

from edgetl.report.html import render_html
from tests.report.pages import Page, example_report


@pytest.fixture(scope="session")
def page() -> Page:
    return Page(render_html(example_report()))
