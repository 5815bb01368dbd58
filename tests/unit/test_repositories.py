"""The places that backups go to: a mistake in them is named, and no secret is where others can read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.module_utils import _repositories

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"
LOCAL = {"name": "local", "type": "directory", "path": "/var/backups/groundwork"}
SFTP = {
    "name": "cellar",
    "type": "sftp",
    "path": "/web1",
    "host": "cellar.example.com",
    "port": 23,
    "user": "web1",
    "host_keys": ["ssh-ed25519 AAAA"],
}
S3 = {"name": "store", "type": "s3", "path": "/web1", "endpoint": "s3.example.com", "bucket": "backups"}
CREDENTIALS = [
    {"name": "cellar", "private_key": KEY},
    {"name": "store", "access_key": "id", "secret_key": "it's $ecret"},
]


def test_good_repositories_are_accepted() -> None:
    good = [{"name": "store", "access_key": "id", "secret_key": "secret"}, CREDENTIALS[0]]
    assert _repositories.problems([LOCAL, SFTP, S3], good) == []


@pytest.mark.parametrize(
    ("repository", "credentials", "words"),
    [
        ({**LOCAL, "path": "backups"}, {}, "backups_repositories, local: path 'backups' must be an absolute path"),
        ({**LOCAL, "name": "my disk"}, {}, "name 'my disk' must be a single word of letters, digits and _.-"),
        ({**SFTP, "host": None}, {"private_key": KEY}, "backups_repositories, cellar: host is missing"),
        ({**SFTP, "host_keys": ["AAAA"]}, {"private_key": KEY}, "host_keys must be the type and the key"),
        (SFTP, {}, "backups_credentials, cellar: private_key is missing"),
        (SFTP, {"private_key": "~/.ssh/id"}, "private_key must be the whole text of the file"),
        (
            {**S3, "endpoint": "https://s3.example.com"},
            {"access_key": "key-id", "secret_key": "$ecret"},
            "endpoint must be a host name, and :PORT if it is not 443; without https://",
        ),
        (S3, {"access_key": "id", "secret_key": "two words"}, "secret_key must be a single word"),
        (
            {**S3, "ca_certificate": "/ca.pem"},
            {"access_key": "key-id", "secret_key": "$ecret"},
            "ca_certificate must be the whole",
        ),
    ],
)
def test_a_mistake_is_named(repository: dict[str, Any], credentials: dict[str, str], words: str) -> None:
    given = [{"name": repository["name"], **credentials}] if credentials else []
    found = _repositories.problems([repository], given)
    assert len(found) == 1, found
    assert words in found[0]
    assert not any(secret in found[0] for secret in credentials.values())


def test_names_must_differ_and_credentials_must_belong_to_a_repository() -> None:
    found = _repositories.problems([LOCAL, LOCAL], [{"name": "locall"}])
    assert found[0] == "backups_repositories: there are two with the name local"
    assert found[1].startswith("backups_credentials: there is no repository 'locall'")
    assert _repositories.problems([], []) == ["backups_repositories: is empty; without one there are no backups"]


def test_files_with_secrets_are_for_their_engine_only() -> None:
    complete = _repositories.complete([LOCAL, SFTP, S3], CREDENTIALS)
    found = [*_repositories.files(complete, "postgres"), *_repositories.media_files(complete)]
    for file in found:
        if any(secret in file.get("content", "") for secret in (KEY.strip(), "$ecret")):
            assert file["mode"] in ("0400", "0600")
            assert file["diff"] is False
    known = next(file for file in found if file["path"] == "/etc/backups/repositories/known_hosts")
    assert known["content"] == "[cellar.example.com]:23 ssh-ed25519 AAAA\n"


def test_the_log_goes_to_each_repository_by_itself() -> None:
    sections = [
        f"# --- Where the backups are: {name} ---\n{line}\n\n" for name, line in (("a", "repo1"), ("a.b", "repo2"))
    ]
    complete = _repositories.complete([{**LOCAL, "name": "a"}, {**LOCAL, "name": "a.b"}], [])
    first, second = _repositories.archive_files(complete, f"[global]\n{''.join(sections)}# --- How it works ---\n")
    assert first["path"] == "/etc/backups/repositories/a.conf"
    assert first["content"] == "[global]\n# --- Where the backups are: a ---\nrepo1\n\n# --- How it works ---\n"
    assert second["content"] == "[global]\n# --- Where the backups are: a.b ---\nrepo2\n\n# --- How it works ---\n"


def test_a_secret_reaches_the_engine_as_it_is() -> None:
    [store] = _repositories.complete([S3], CREDENTIALS[1:])
    environment = json.loads(_repositories.media_access(store))["environment"]
    assert environment["RESTIC_REPOSITORY"] == "s3:https://s3.example.com/backups/web1/media"
    assert environment["AWS_SECRET_ACCESS_KEY"] == "it's $ecret"
