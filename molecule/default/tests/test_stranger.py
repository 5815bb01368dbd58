"""A project that nobody here wrote, unmodified. Only the scenario `default` has it."""

from __future__ import annotations

import re
from typing import Any

from test_site import visitor  # beside this file


def test_its_login_page_is_styled(host: Any) -> None:
    cms = visitor(host, "cms", "cms.test")
    page = cms.get("/admin/login/")
    assert page.status == 200
    styles = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
    assert styles
    assert [cms.get(style).status for style in styles] == [200] * len(styles)
