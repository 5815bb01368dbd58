"""A project that nobody here wrote, unmodified."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_site import visitor  # beside this file

pytestmark = pytest.mark.once


def test_its_login_page_is_styled(host: Any) -> None:
    cms = visitor(host, "cms", "cms.test")
    page = cms.get("/pages/cms/admin/login/")
    assert page.status == 200
    styles = re.findall(r'href="(/pages/cms/static/[^"]+\.css)"', page.text)
    assert styles
    assert [cms.get(style).status for style in styles] == [200] * len(styles)


def test_all_of_it_is_below_its_path_and_nothing_else_is_there(host: Any) -> None:
    cms = visitor(host, "cms", "cms.test")
    answer = cms.get("/pages/cms/admin/")
    assert answer.headers["Location"] == "/pages/cms/admin/login/?next=/pages/cms/admin/"
    assert [cms.get(path).status for path in ("/", "/admin/", "/pages/", "/static/")] == [404] * 4
    assert cms.get("/pages/cms").headers["Location"] == "https://cms.test/pages/cms/"
