"""What visitors get of sites that share a domain, each below a path of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from visitor import Answer, fetch

testinfra_hosts = ["web1"]
SHOP = "https://shop.example.com"
ALONE = "https://alone.example.com"
# Where the applications listen.
FIRST, SECOND = "/run/echo.sock", "/run/echo-ws.sock"


def application(answer: Answer) -> str:
    assert answer.status == 200, answer
    return str(json.loads(answer.body)["socket"])


@pytest.mark.parametrize(
    ("path", "socket"),
    [
        ("/", FIRST),
        ("/note", FIRST),
        ("/notesbook/", FIRST),
        ("/notes/", SECOND),
        ("/notes/a/b?c", SECOND),
        ("/notes/ws/", FIRST),
        ("/notes/privateer", SECOND),
        ("/notes/private/", FIRST),
        ("/notes/-/health", SECOND),
        ("/-/health", FIRST),
    ],
)
def test_each_path_leads_to_its_site(host: Any, path: str, socket: str) -> None:
    assert application(fetch(host, SHOP + path)) == socket


@pytest.mark.parametrize("site", [SHOP, "https://www.shop.example.com"])
def test_a_path_without_its_last_slash_leads_to_the_site(host: Any, site: str) -> None:
    answer = fetch(host, f"{site}/notes?a=b")
    assert (answer.status, answer.one("location")) == (301, f"{site}/notes/?a=b")


@pytest.mark.parametrize("path", ["//notes/", "/%6eotes/", "/x/../notes/", "/notes/%77s/"])
def test_a_path_that_is_written_in_another_way_is_none_of_the_site(host: Any, path: str) -> None:
    assert fetch(host, SHOP + path).status == 404


def test_each_site_has_files_of_its_own(host: Any) -> None:
    for path, body in {"/static/module.mjs": "export {}", "/notes/static/web1.55e7cbb9ba48.css": "only here"}.items():
        assert fetch(host, SHOP + path).body == body
        assert fetch(host, f"{SHOP}{path}x").status == 404
    assert fetch(host, f"{SHOP}/notes/static/module.mjs").status == 404
    assert fetch(host, f"{SHOP}/notes/media/photo.png").one("content-type") == "image/png"
    assert fetch(host, f"{SHOP}/notes/media/logo.svg").one("content-disposition") == "attachment"
    assert fetch(host, f"{SHOP}/notes/media/invoices/note.png").status == 404
    # The second site has none, so these are pages of its application.
    assert application(fetch(host, f"{SHOP}/notes/private/static/module.mjs")) == FIRST


def test_each_site_has_limits_of_its_own(host: Any) -> None:
    host.check_output("head -c 2097152 /dev/zero >/tmp/large")
    post = ("-H", "Expect:", "--data-binary", "@/tmp/large")
    assert json.loads(fetch(host, f"{SHOP}/notes/", *post).body)["size"] == 2097152
    assert fetch(host, f"{SHOP}/", *post).status == 413
    asked = "curl -sko /dev/null -w '%{http_code} ' --parallel --parallel-max 100 --connect-to ::127.0.0.1:"
    assert set(host.check_output(f"{asked} '{SHOP}/notes/?[1-400]'").split()) == {"200"}


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("notes", ["/notes/", "/notes/ws/"], ["/", "/notes/private/", "/notes/static/app.css"]),
        ("shop", ["/", "/ws/"], ["/notes/", "/notes/private/"]),
        ("private", ["/notes/private/x"], ["/", "/notes/"]),
    ],
)
def test_each_site_has_maintenance_of_its_own(host: Any, name: str, inside: list[str], outside: list[str]) -> None:
    host.check_output(f"touch /etc/nginx/maintenance/{name}.on")
    try:
        closed = [fetch(host, SHOP + path) for path in inside]
        assert {answer.status for answer in closed} == {503}
        assert {"À bientôt" in answer.body for answer in closed} == {name == "notes"}
        assert {fetch(host, SHOP + path).status for path in outside} == {200}
    finally:
        host.check_output(f"rm /etc/nginx/maintenance/{name}.on")


def test_a_site_below_a_path_hands_out_protected_files(host: Any) -> None:
    # The path is one of the server, whichever site names it.
    assert fetch(host, f"{SHOP}/hand-out/notes/private/files/photo.png").body == "private"
    assert fetch(host, f"{SHOP}/notes/private/files/photo.png").status == 404


def test_a_site_that_is_alone_leaves_the_rest_empty(host: Any) -> None:
    assert application(fetch(host, f"{ALONE}/app/", authority="alone.crt")) == FIRST
    for path in ("/", "/index.html", "/application/", "/static/app.css"):
        answer = fetch(host, ALONE + path, authority="alone.crt")
        assert answer.status == 404
        assert answer.one("strict-transport-security") == "max-age=3600"
        assert "welcome" not in answer.body.lower()
    for name in ("com", "net"):
        answer = fetch(host, f"http://alone.example.{name}/app/?a=b")
        assert answer.one("location") == f"https://alone.example.{name}/app/?a=b"
    answer = fetch(host, "https://alone.example.net/app/?a=b", authority="alone.crt")
    assert answer.one("location") == f"{ALONE}/app/?a=b"


def test_one_certificate_is_for_all_sites_of_a_domain(host: Any) -> None:
    kept = host.check_output("ls /etc/nginx/tls").split()
    assert {"shop.crt", "alone.crt", "far.crt"} < set(kept)
    assert not {"notes.crt", "private.crt", "far_notes.crt"} & set(kept)


def test_a_path_leads_to_its_site_on_other_hosts(host: Any) -> None:
    def get(path: str) -> Answer:
        return fetch(host, f"https://far.example.com{path}", authority="far.crt")

    for _ in range(4):
        assert application(get("/notes/a")) == SECOND
        assert application(get("/notesbook")) == FIRST
        assert get("/notes/static/app1.55e7cbb9ba48.css").body == "only here"
    assert get("/notes?a").one("location") == "https://far.example.com/notes/?a"
