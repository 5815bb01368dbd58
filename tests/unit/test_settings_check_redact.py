"""No secret is shown, nor a piece of one; what is to be verified is."""

from __future__ import annotations

import json
import random
import string
import time
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from plugins.module_utils._settings_check.redact import (
    MASK,
    Scrubber,
    is_secret_name,
    is_secret_path,
    redact,
    secret_values,
)

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nCanary77\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl\n-----END CERTIFICATE-----\n"

# Each holds a word with "Canary" that must disappear.
PLANTED: dict[str, Any] = {
    "SECRET_KEY": "Canary01",
    "SECRET_KEY_FALLBACKS": ["Canary02", "Canary03"],
    "DATABASES": {
        "default": {"USER": "shop", "PASSWORD": "Canary04", "HOST": "db"},
        "conninfo": {"OPTIONS": {"conninfo": "host=db user=shop password='Canary05 x' sslmode=require"}},
        "options": {"OPTIONS": {"options": "-c search_path=shop -c shop.api_token=Canary06"}},
        "passfile": {"OPTIONS": {"sslpassword": "Canary07"}},
    },
    "DATABASE_URL": "postgres://shop:Canary08@db.example.com:5432/shop",
    "BROKEN_URL": "postgres://shop:Canary09/3@db/shop",
    "BROKEN_URL_2": "postgres://shop:Can#ary10Canary@db/shop",
    "BROKEN_URL_3": "redis://:12/Canary11@redis:6379/0",
    "CELERY_BROKER_URL": "redis://:Canary12@redis:6379/0;redis://:Canary13@other:6379/0",
    "CELERY_RESULT_BACKEND": "db+postgresql://shop:Canary14@db/shop",
    "REDIS_URL": "unix://shop:Canary15@/run/redis.sock",
    "SENTRY_DSN": "https://Canary16@o1.ingest.sentry.io/4",
    "CACHES": {
        "default": {"LOCATION": "redis://:Canary17@redis:6379/1", "KEY_PREFIX": "shop"},
        "many": {"LOCATION": ["redis://:Canary18@a:6379", "redis://:Canary19@b:6379"]},
        "options": {"OPTIONS": {"password": "Canary20", "PASSWORD": "Canary21"}},
    },
    "CHANNEL_LAYERS": {"default": {"CONFIG": {"hosts": [["redis://:Canary22@redis:6379/2", 1]]}}},
    "HAYSTACK_CONNECTIONS": {"default": {"URL": "https://elastic:Canary23@search:9200/"}},
    "LOGGING": {"handlers": {"mail": {"class": "SMTPHandler", "credentials": ["shop", "Canary24"]}}},
    "EMAIL_HOST_PASSWORD": "Canary25",
    "TELEGRAM": "https://api.telegram.org/bot123456789:AACanary26_abcdefghijklmnopqrstuvw/send",
    "SLACK": "https://hooks.slack.com/services/T0000/B0000/Canary27abcdef",
    "DISCORD": "https://discord.com/api/webhooks/12345/Canary28-abcdef",
    "ALERT_WEBHOOK_URL": "https://example.com/Canary29",
    "STRIPE": {"sk": "Canary30", "live": "sk_live_Canary31"},
    "HASHID_SALT": "Canary32",
    "FERNET_KEYS": ["Canary33"],
    "FIELD_ENCRYPTION": "Canary34aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=",
    "FTP_PW": "Canary35",
    "LEGACY_PWD": "Canary36",
    "DOOR_PIN": 77123456,
    "SIGNING": {"private": PEM},
    "AWS_ACCESS_KEY_ID": "Canary37",
    "AWS_SESSION": "AKIACANARY3800000000",
    "GITHUB": "ghp_Canary39Canary39Canary",
    "JWT": "eyJhbGciOiJI.eyJCanary40.Canary41",
    "GOOGLE_SERVICE_ACCOUNT": '{"type": "service_account", "private_key_id": "Canary42"}',
    "SEARCH_URL": "https://search.example.com/?q=1&api_key=Canary43&x=2",
    "API": {"headers": {"Authorization": "Bearer Canary44", "X-Api-Key": "Canary45"}},
    "PROXIES": ["http://proxy:Canary46@proxy:3128"],
    "BASICAUTH_USERS": {"admin": "Canary47"},
    "HTTP_AUTH": ["admin", "Canary48"],
    "apiKey": "Canary49",
    "clientSecret": "Canary50",
    "DBPASSWORD": "Canary51",
    "SG": "SG.Canary52abcdefghijk.abcdefghijklmnopqrst",
    "OLD_KEY": "django-insecure-Canary53",
    "SMTP": "smtp+tls://shop%40example.com:Canary54@mail:587",
    "ODBC": "DRIVER={x};UID=shop;PWD=Canary55;SERVER=db",
    "TOKENS": {"a": {"b": ["Canary56"]}},
    "GIT": "git+https://Canary57@github.com/shop/shop.git",
}
HARMLESS: dict[str, Any] = {
    "AUTH_USER_MODEL": "accounts.User",
    "AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"],
    "AUTH_PASSWORD_VALIDATORS": [{"NAME": "django.contrib.auth.x", "OPTIONS": {"min_length": 9}}],
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.Argon2PasswordHasher"],
    "PASSWORD_RESET_TIMEOUT": 259200,
    "CACHE_MIDDLEWARE_KEY_PREFIX": "shop",
    "CACHES": {"default": {"KEY_PREFIX": "shop", "KEY_FUNCTION": "shop.keys.make", "LOCATION": "redis://redis:6379/0"}},
    "CSRF_COOKIE_NAME": "csrftoken",
    "CSRF_HEADER_NAME": "HTTP_X_CSRFTOKEN",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_DOMAIN": "shop.example.com",
    "SECRET_KEY_FILE": "/run/secrets/key",
    "REST_AUTH": {"TOKEN_MODEL": None, "JWT_AUTH_COOKIE": "shop-auth", "SERIALIZER": "shop.Login"},
    "SIMPLE_JWT": {"ACCESS_TOKEN_LIFETIME": 300, "ALGORITHM": "HS256", "AUTH_HEADER_TYPES": ["Bearer"]},
    "REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]},
    "ACCOUNT_PASSWORD_MIN_LENGTH": 12,
    "SOCIALACCOUNT_STORE_TOKENS": True,
    "AWS_QUERYSTRING_AUTH": False,
    "STRIPE_PUBLISHABLE_KEY": "pk_live_abcdefgh",
    "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
    "CSRF_TRUSTED_ORIGINS": ["https://shop.example.com:8443"],
    "KEYBOARD_LAYOUT": "de",
    "PASSENGER_CLASSES": ["first"],
    "TOKENIZER": "shop.text.split",
    "BYPASS_PROXY": "localhost",
    "MONKEY": "george",
    "AUTHORS": ["anna"],
    "SECRET_KEY": "",
    "EMAIL_HOST_PASSWORD": None,
    "PROFILE_URL": "https://social.example.com/@shop",
    "DATABASES": {"default": {"NAME": "shop", "USER": "guestbook", "HOST": "/run/pgbouncer", "PORT": 6432}},
    "CELERY_BROKER_URL": "amqp://guestbook@rabbit:5672//",
    "PUBLIC_CERTIFICATE": CERTIFICATE,
    "LOGGING": {"formatters": {"line": {"format": "{levelname} {asctime}: {message} key={x}"[:33]}}},
}


def test_none_of_the_planted_secrets_is_shown() -> None:
    assert len(PLANTED) >= 38
    shown = json.dumps({name: redact(name, value) for name, value in PLANTED.items()})
    assert "canary" not in shown.lower()
    assert "77123456" not in shown


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_to_be_verified_is_shown(name: str) -> None:
    assert redact(name, HARMLESS[name]) == HARMLESS[name]
    assert secret_values({name: HARMLESS[name]}, {}) == set()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgres://shop:pw@db:5432/shop?host=/run", f"postgres://shop:{MASK}@db:5432/shop?host=/run"),
        ("postgres://shop:p@ss@db/shop", f"postgres://shop:{MASK}@db/shop"),
        ("postgres://shop:p/w@db/shop", f"postgres://{MASK}"),
        ("redis://:p#w@db/1", f"redis://{MASK}"),
        ("redis://:p?w@db/1", f"redis://{MASK}"),
        ("postgres://shop:my pass@db/shop", f"postgres://shop:{MASK}@db/shop"),
        ("redis://:a@x;redis://:b@y", f"redis://:{MASK}@x;redis://:{MASK}@y"),
        ("https://key@sentry.io/1", f"https://{MASK}@sentry.io/1"),
        ("postgres://shop@db/shop", "postgres://shop@db/shop"),
        ("host=db password=pw user=shop", f"host=db password={MASK} user=shop"),
        ("host=db password='p\\'w x' user=shop", f"host=db password='{MASK}' user=shop"),
    ],
)
def test_the_rest_of_a_value_stays_readable(value: str, shown: str) -> None:
    assert redact("X", value) == shown


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "db-password", "dbPassword", "API_KEY_2", "KEY", "AUTH"])
def test_a_name_tells_a_secret_in_any_spelling(name: str) -> None:
    assert is_secret_name(name)


def test_a_project_has_secret_names_of_its_own() -> None:
    assert not is_secret_name("LICENCE_CODE")
    assert is_secret_name("LICENCE_CODE", ["^licence"])
    assert is_secret_name("AUTH_USER_MODEL", ["MODEL"])
    assert redact("X", {"LICENCE_CODE": "abc"}, ["LICENCE"]) == {"LICENCE_CODE": MASK}


def test_what_is_inside_of_a_secret_is_secret() -> None:
    assert is_secret_path("SECRET_KEY_FALLBACKS.0")
    assert is_secret_path("DATABASES.default.PASSWORD")
    assert not is_secret_path("DATABASES.default.HOST")
    assert not is_secret_path("REST_AUTH.TOKEN_MODEL")


# --- free text ----------------------------------------------------------------


def test_a_fragment_that_a_library_cut_out_is_masked() -> None:
    secrets = secret_values({}, {"DATABASE_URL": "postgres://shop:Tr0ub4dor/3@db/shop", "DB_PASSWORD": "Tr0ub4dor/3"})
    scrubber = Scrubber(secrets)
    text = "ValueError: Port could not be cast to integer value as 'Tr0ub4dor'"
    assert scrubber.scrub(text) == f"ValueError: Port could not be cast to integer value as '{MASK}'"
    assert scrubber.scrub("no host tr0ub4dor") == f"no host {MASK}"


def test_ordinary_words_survive() -> None:
    settings = {
        "DATABASES": {
            "default": {"NAME": "guestbook", "USER": "guestbook", "HOST": "localhost", "PASSWORD": "xK9-vQ2_mZ"}
        },
        "SECRET_KEY": "django-insecure-Zq8w3nR5tY",
        "SIGNING_KEY": PEM,
        "CELERY_BROKER_URL": "redis://guestbook:pW4-hJ7_kL@redis.example.com:6379/0",
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"}},
    }
    scrubber = Scrubber(secret_values(settings, {"SENTRY_DSN": "https://0a1b2c3d4e5f@o1.ingest.sentry.io/4"}))
    text = (
        'django.db.utils.OperationalError: connection to server at "localhost", port 5432 failed: FATAL: password '
        'authentication failed for user "guestbook" (database guestbook, django.core.cache.backends.redis.RedisCache, '
        "redis.example.com, o1.ingest.sentry.io, BEGIN PRIVATE KEY, django-insecure-)"
    )
    assert scrubber.scrub(text) == text


def test_a_secret_that_nobody_told_of_is_masked_by_its_shape() -> None:
    text = "cannot connect to amqp://shop:Canary@mq/, api_key='Canary' and {'PASSWORD': 'Canary', 'x': 1}"
    assert Scrubber([]).scrub(text) == (
        f"cannot connect to amqp://shop:{MASK}@mq/, api_key='{MASK}' and {{'PASSWORD': '{MASK}', 'x': 1}}"
    )


def test_other_spellings_of_a_secret_are_known() -> None:
    scrubber = Scrubber(secret_values({"DB_PASSWORD": "ä&b c/d ef"}, {"REDIS_URL": "redis://:p%2Fq%26r%20stu@r/0"}))
    text = f"{quote('ä&b c/d ef', safe='')} p/q&r stu"
    assert scrubber.scrub(text) == f"{MASK} {MASK}"


def test_a_number_is_a_secret_too() -> None:
    assert Scrubber(secret_values({"DOOR_PIN": 77123456}, {})).scrub("7712345 is wrong") == f"{MASK} is wrong"


def has_piece(text: str, secret: str) -> bool:
    return any(secret[start : start + 5].lower() in text.lower() for start in range(len(secret) - 4))


@pytest.mark.parametrize("seed", range(300))
def test_no_piece_of_any_secret_is_left_in_any_text(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    alphabet = chance.choice([string.printable, string.ascii_letters, "ab*", "***x", "aä/:@%?#'\"\\ ", "abc\nß"])
    secrets = ["".join(chance.choices(alphabet, k=chance.randint(5, 40))) for _number in range(chance.randint(1, 5))]
    secrets = [secret for secret in secrets if secret.strip()]
    environment = {f"NAME_{number}_PASSWORD": secret for number, secret in enumerate(secrets)}
    scrubber = Scrubber(secret_values({}, environment))
    words: list[str] = []
    for secret in secrets * 3:
        start, end = sorted(chance.choices(range(len(secret) + 1), k=2))
        text = chance.choice([secret, secret[start:end], repr(secret), secret.lower(), f"redis://:{secret}@h/0"])
        words += [text, "".join(chance.choices(alphabet, k=3))]
    scrubbed = scrubber.scrub(chance.choice(["", " "]).join(words))
    assert not any(has_piece(scrubbed, secret) for secret in secrets)


@pytest.mark.parametrize("seed", range(200))
def test_no_password_of_a_url_is_left(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    password = "".join(chance.choices(string.ascii_letters + "/:@?#%&=+;,[]'\" $", k=20))
    url = f"postgres://shop:{password}@db.example.com:5432/shop"
    try:
        cut = [str(urlsplit(url).hostname), urlsplit(url).path, str(urlsplit(url).query)]
    except ValueError as error:
        cut = [str(error)]
    scrubber = Scrubber(secret_values({"MIRROR": [url]}, {}))
    for text in (str(redact("MIRROR", [url])), *(scrubber.scrub(f"error: {text!r}") for text in (url, password, *cut))):
        assert not has_piece(text, password)


@pytest.mark.parametrize(
    "character", ["a", "'", "=", "a=", "password='", "://", "-----BEGIN KEY-----", "eyJ", "0", " "]
)
def test_two_hundred_thousand_characters_are_masked_at_once(character: str) -> None:
    scrubber = Scrubber(secret_values(PLANTED, {}))
    text = character * (200_000 // len(character))
    started = time.process_time()
    scrubber.scrub(text)
    assert time.process_time() - started < 1, character


def test_a_long_log_is_masked_in_a_fifth_of_a_second() -> None:
    scrubber = Scrubber(secret_values(PLANTED, {}))
    line = "2026-01-01 12:00:00 ERROR django.request: Internal Server Error: /shop/cart/?item=42 Canary25 at {n}\n"
    text = "".join(line.format(n=number) for number in range(3000))[:200_000]
    best = 9.0
    for _attempt in range(3):
        started = time.process_time()
        scrubbed = scrubber.scrub(text)
        best = min(best, time.process_time() - started)
    assert "Canary" not in scrubbed
    assert best < 0.2
