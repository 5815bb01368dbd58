"""What visitors get of an app that is below a path of another one's domain."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_site import GUESTBOOK, Browser, log_in, sign, variables, visitor, visits  # beside this file


@pytest.fixture
def guest(host: Any) -> Browser:
    return visitor(host, "guestbook", GUESTBOOK)


@pytest.fixture(scope="module")
def inner(host: Any) -> str:
    """The name of the app; it is below a path of the same name."""
    (name,) = [
        name for name, app in variables(host)["django_apps"].items() if GUESTBOOK in app["domains"] and "path" in app
    ]
    return str(name)


def is_logged_in(guest: Browser, path: str) -> bool:
    return guest.get(f"{path}/admin/").status == 200


@pytest.mark.parametrize("page", ["/", "/accounts/login/", "/admin/login/"])
def test_all_links_stay_below_the_path(guest: Browser, inner: str, page: str) -> None:
    answer = guest.get(f"/{inner}{page}")
    assert answer.status == 200
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', answer.text)
    assert links
    assert [link for link in links if not link.startswith(f"/{inner}/")] == []
    styles = [link for link in links if link.endswith(".css")]
    assert styles
    for style in styles:
        assert re.search(r"\.[0-9a-f]{12}\.css$", style)
        assert "immutable" in guest.get(style).headers["Cache-Control"]


def test_a_stranger_is_led_to_the_login_page_of_the_app(guest: Browser, inner: str) -> None:
    answer = guest.get(f"/{inner}/admin/")
    assert answer.headers["Location"] == f"/{inner}/admin/login/?next=/{inner}/admin/"


def test_redirects_of_the_app_itself_keep_the_path(host: Any, inner: str) -> None:
    ask = f"curl -si --unix-socket /run/gunicorn-{inner}.sock"
    assert f"location: https://{GUESTBOOK}/{inner}/a?b=c" in host.check_output(
        f"{ask} 'http://{GUESTBOOK}/{inner}/a?b=c'"
    ).lower().replace("\r", "")
    missing = host.check_output(f"{ask} -H 'X-Forwarded-Proto: https' http://{GUESTBOOK}/{inner}/status")
    assert f"location: /{inner}/status/" in missing.lower()


def test_an_upload_is_below_the_path_and_in_one_app_only(guest: Browser, inner: str) -> None:
    picture = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
    answer = guest.post(f"/{inner}/", {"author": "Ada", "message": "look"}, upload=("attachment", "p.png", picture))
    assert (answer.status, answer.headers["Location"]) == (302, f"/{inner}/")
    found = re.search(rf'href="(/{inner}/media/[^"]*\.png)"', guest.get(f"/{inner}/").text)
    assert found
    assert guest.get(found.group(1)).body == picture
    assert guest.get(found.group(1).removeprefix(f"/{inner}")).status == 404


def test_each_app_has_sessions_of_its_own(host: Any, guest: Browser, inner: str) -> None:
    assert [visits(guest, path) for path in ("", "", f"/{inner}", "", f"/{inner}")] == [1, 2, 1, 3, 2]
    log_in(host, guest, "guestbook", "")
    assert (is_logged_in(guest, ""), is_logged_in(guest, f"/{inner}")) == (True, False)
    log_in(host, guest, inner, f"/{inner}")
    assert (is_logged_in(guest, ""), is_logged_in(guest, f"/{inner}")) == (True, True)
    # A form of either is accepted, whoever has set the cookie against forged requests.
    assert sign(guest) in guest.get("/").text
    assert guest.post(f"/{inner}/", {"author": "Ada", "message": "here"}).status == 302
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', guest.get(f"/{inner}/").text)
    assert token
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    guest.ask("POST", f"/{inner}/accounts/logout/", f"csrfmiddlewaretoken={token.group(1)}".encode(), form)
    assert (is_logged_in(guest, ""), is_logged_in(guest, f"/{inner}")) == (True, False)


def test_another_server_of_the_app_has_its_path_below_that_of_the_app(host: Any, guest: Browser, inner: str) -> None:
    found = re.fullmatch(r"slept 0 s in process (\d+)\n", guest.get(f"/{inner}/slow/0/").text)
    assert found
    assert f"/gunicorn-{inner}-slow@" in host.check_output(f"cat /proc/{found.group(1)}/cgroup")


def test_commands_make_the_same_links(host: Any, inner: str) -> None:
    command = "from django.urls import reverse; print(reverse('login'))"
    assert f"/{inner}/accounts/login/" in host.check_output(f'{inner}-manage shell --command "{command}"')


def test_maintenance_of_one_app_leaves_the_other(host: Any, guest: Browser, inner: str) -> None:
    for name, statuses in {inner: (200, 503), "guestbook": (503, 200)}.items():
        host.check_output(f"touch /etc/nginx/maintenance/{name}.on")
        try:
            assert (guest.get("/").status, guest.get(f"/{inner}/").status) == statuses
        finally:
            host.check_output(f"rm /etc/nginx/maintenance/{name}.on")
