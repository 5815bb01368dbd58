#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings that a service really runs with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: django_settings_check
short_description: Verify the settings a Django service really runs with
version_added: 0.1.0
author: The groundwork.django authors (@groundwork-django)
description:
  - Loads a Django project as its service does, which is with its environment files, as its account, and through its
    WSGI or ASGI application, and reports everything in it that ruins a site in production.
  - Runs Django's own deployment checks, and with them rules of its own for what C(manage.py check --deploy) lets pass.
    See the table of findings in the collection's documentation.
  - Changes nothing. Logging is never configured, no database, table or log file is made, and no process is left behind.
  - No value of a setting is in any output unless O(return_settings) asks for them, and then secrets are masked.
notes:
  - Environment files are read with the rights of the module, as systemd reads them. The project is loaded with the
    rights of O(user).
requirements:
  - Django 4.2 or newer in the project's virtual environment, with Python 3.8 or newer
attributes:
  check_mode:
    description: >-
      Does the same, since it changes nothing. Where O(chdir) or the interpreter does not exist yet, it is skipped.
    support: full
  diff_mode:
    description: Shows what changes, which is nothing.
    support: none
  platform:
    description: Where it runs.
    support: full
    platforms: posix
options:
  chdir:
    description: The C(WorkingDirectory) of the service, first on C(sys.path) as with gunicorn.
    type: path
    required: true
  virtualenv:
    description: The virtual environment of the service. Its C(bin/python) loads the project.
    type: path
    required: true
    aliases: [venv]
  application:
    description:
      - The WSGI or ASGI callable, such as V(shop.wsgi) or V(shop.wsgi:application).
      - It is imported first, as the service does, and so decides which settings are loaded.
    type: str
  settings:
    description:
      - The settings module that is expected. With O(application), another one is an error; without, it is loaded.
      - One of O(application), O(settings) and C(DJANGO_SETTINGS_MODULE) in the environment files is required.
    type: str
  pythonpath:
    description: More directories for C(sys.path), relative to O(chdir) or absolute.
    type: list
    elements: path
    default: []
  environment_files:
    description:
      - The C(EnvironmentFile) lines of the unit, read exactly as systemd reads them. Absolute, with wildcards if
        needed, and with a V(-) before files that may be missing.
    type: list
    elements: str
    default: []
  environment:
    description: The C(Environment) lines of the unit. Environment files win over them.
    type: dict
    default: {}
  user:
    description: The account of the service. Required when the module runs as root; V(root) must be written out.
    type: str
  timeout:
    description: Seconds that loading and checking may take together.
    type: int
    default: 60
  checks:
    description:
      - The groups of checks to make.
      - V(envfile) is about lines that systemd reads otherwise than their author, V(django) Django's own checks,
        V(settings) rules about settings, V(request) what becomes of a request for O(public_urls), V(static) static and
        uploaded files, V(logging) where errors are logged.
      - V(database) and V(cache) ask each of O(databases) and O(caches) once. V(migrations) finds those that are
        missing, conflicting or not applied, V(schema) tables that differ from the models, V(stable) settings that are
        others each time they are loaded.
    type: list
    elements: str
    choices: [envfile, django, settings, request, static, logging, database, cache, migrations, schema, stable]
    default: [envfile, django, settings, request, static, logging]
  databases:
    description: The aliases in C(DATABASES) that V(database), V(migrations) and V(schema) are about.
    type: list
    elements: str
    default: [default]
  caches:
    description: The aliases in C(CACHES) that V(cache) is about.
    type: list
    elements: str
    default: [default]
  workers:
    description: How many processes the service has. With more than one, SQLite and caches within a process are errors.
    type: int
    default: 2
  server:
    description: The kind of the application.
    type: str
    choices: [wsgi, asgi]
    default: wsgi
  pooler:
    description:
      - What pools the connections to PostgreSQL. With V(auto), one that is found by the checks V(database) is a warning
        where the settings do not suit it.
    type: str
    choices: [auto, none, session, transaction]
    default: auto
  public_urls:
    description: >-
      Where visitors reach the site, such as V(https://shop.example.com). Each is tried by the checks V(request).
    type: list
    elements: str
    default: []
  private_files:
    description: >-
      Files beside the code that are not in its repository, relative to O(chdir) or absolute, such as a
      C(local_settings.py). Secrets may be in them.
    type: list
    elements: str
    default: []
  proxy_headers:
    description: The headers that the web server in front adds to each request.
    type: dict
    default:
      X-Forwarded-Proto: https
  url_scheme:
    description:
      - The scheme that the application server itself tells Django, C(wsgi.url_scheme).
      - gunicorn tells V(https) where a proxy on the same host sends C(X-Forwarded-Proto), and the site then works
        without C(SECURE_PROXY_SSL_HEADER); others tell V(http).
    type: str
    choices: [http, https]
    default: http
  expect:
    description:
      - What the settings must be. All predicates of one entry must hold, and it must have at least one.
      - Tuples compare as lists, paths as strings, sets as sorted lists, durations in seconds. V(true) is not V(1).
      - A string is converted to the type of the setting where that is a boolean or a number.
      - Settings that are secret by name take only O(expect[].present), O(expect[].overridden), O(expect[].type) and
        O(expect[].min_length); see O(secrets) to compare them.
    type: list
    elements: dict
    default: []
    suboptions:
      setting:
        description: Its name, with the way inside of it, such as V(DATABASES.default.HOST). Lists are counted from 0.
        type: str
        required: true
      equals:
        description: The value. For nothing, use O(expect[].type) with V(null).
        type: raw
      one_of:
        description: The values that it may have.
        type: list
        elements: raw
      min:
        description: The least number.
        type: float
      max:
        description: The greatest number.
        type: float
      regex:
        description: A regular expression that is found in it.
        type: str
      contains:
        description: A member of a list, a key of a dictionary, or a part of a string.
        type: raw
      min_length:
        description: The least length.
        type: int
      type:
        description: Its type.
        type: str
        choices: [bool, int, float, str, list, dict, "null"]
      present:
        description: Whether it is there at all.
        type: bool
      overridden:
        description: Whether the project sets it, even to the default of Django.
        type: bool
      msg:
        description: What to say when it does not hold.
        type: str
      severity:
        description: How severe that is.
        type: str
        choices: [error, warning, notice]
        default: error
  secrets:
    description:
      - Values that settings must have, by their names as in O(expect[].setting). They are compared and never shown.
      - Each has at least 8 characters, since Ansible masks them wherever they occur.
    type: dict
    default: {}
  ignore:
    description: The ids of findings that are accepted. They are returned under RV(ignored).
    type: list
    elements: str
    default: []
  severity:
    description: Other severities for findings, by their id. One of V(error), V(warning) and V(notice).
    type: dict
    default: {}
  fail_on:
    description: The least severity that fails the task. With V(never), settings that do not load are a finding too.
    type: str
    choices: [error, warning, notice, never]
    default: error
  return_settings:
    description: Which settings to return, with secrets masked. No masking is perfect.
    type: str
    choices: [none, overridden, all]
    default: none
  secret_patterns:
    description: Regular expressions for more names whose values are secret.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Verify the settings of the shop
  groundwork.django.django_settings_check:
    chdir: /srv/shop/current
    virtualenv: /srv/shop/current/.venv
    application: shop.wsgi:application
    settings: shop.settings.production
    environment_files: [/etc/shop/env]
    user: shop
    workers: 4
    pooler: transaction
    public_urls: ["https://shop.example.com"]

- name: Verify databases, caches and migrations too, and what this site relies on
  groundwork.django.django_settings_check:
    chdir: /srv/shop/current
    virtualenv: /srv/shop/current/.venv
    application: shop.wsgi
    environment_files: [/etc/shop/env]
    user: shop
    checks: [envfile, django, settings, request, static, logging, database, cache, migrations, schema, stable]
    expect:
      - setting: DATABASES.default.CONN_MAX_AGE
        max: 60
      - setting: EMAIL_HOST
        equals: mail.example.com
        msg: mail goes through the relay of the company
    secrets:
      DATABASES.default.PASSWORD: "{{ shop_database_password }}"
    ignore: [security.W021]
    severity:
      admin_default_url: error

- name: Look at the settings without failing
  groundwork.django.django_settings_check:
    chdir: /srv/shop/current
    virtualenv: /srv/shop/current/.venv
    settings: shop.settings.production
    environment_files: [/etc/shop/env]
    user: shop
    fail_on: never
    return_settings: overridden
  register: shop_settings
"""

RETURN = r"""
msg:
  description: How many findings there are, and the first ten; or why the project could not be checked.
  type: str
  returned: always
findings:
  description: What was found, the most severe first.
  type: list
  elements: dict
  returned: always
  contains:
    id:
      description: What it is called in O(ignore) and O(severity).
      type: str
    source:
      description: Who found it, V(django), V(rule) or V(expect).
      type: str
    severity:
      description: V(error), V(warning) or V(notice).
      type: str
    message:
      description: What is wrong.
      type: str
    hint:
      description: What to do.
      type: str
    object:
      description: The model, file, database, cache or host that it is about.
      type: str
    setting:
      description: The setting that it is about.
      type: str
  sample:
    - id: debug_on
      source: rule
      severity: error
      message: Every error shows visitors source code and settings, and each worker uses more and more memory.
      hint: DEBUG = False
      object: ""
      setting: DEBUG
ignored:
  description: >-
    Findings that O(ignore) accepts, or C(SILENCED_SYSTEM_CHECKS) of the project, in the form of RV(findings).
  type: list
  elements: dict
  returned: always
counts:
  description: How many findings there are of each severity.
  type: dict
  returned: always
  sample: {error: 1, warning: 0, notice: 2}
django_version:
  description: The version of Django in the virtual environment.
  type: str
  returned: always
  sample: 5.2.8
python_version:
  description: The version of its Python.
  type: str
  returned: always
  sample: 3.13.5
settings_module:
  description: The module that was loaded.
  type: str
  returned: always
  sample: shop.settings.production
settings_file:
  description: Where it is.
  type: str
  returned: always
  sample: /srv/shop/current/shop/settings/production.py
user:
  description: The account that the project was loaded as.
  type: str
  returned: always
  sample: shop
overridden:
  description: The names of the settings that the project sets.
  type: list
  elements: str
  returned: always
environment_names:
  description: The names of the variables in O(environment) and O(environment_files).
  type: list
  elements: str
  returned: always
databases:
  description: What each database told, by alias. What was not asked or is unknown is missing or V(null).
  type: dict
  returned: always
  sample:
    default:
      vendor: postgresql
      server_version: "17.6"
      reachable: true
      pooled: true
      tls: null
      superuser: false
      unapplied: []
      conflicts: []
caches:
  description: What each cache told, by alias.
  type: dict
  returned: always
  sample: {default: {backend: django.core.cache.backends.redis.RedisCache, reachable: true}}
settings:
  description: The settings, with secrets masked.
  type: dict
  returned: when O(return_settings) is not V(none)
skipped_checks:
  description: Checks that could not be made, and why.
  type: list
  elements: dict
  returned: always
  contains:
    check:
      description: Its name.
      type: str
    reason:
      description: Why it could not be made.
      type: str
timing:
  description: Seconds that each stage took.
  type: dict
  returned: always
  sample: {start: 0.02, django: 0.05, settings: 0.11, setup: 0.1, rules: 0.01, django_checks: 0.02, total: 0.31}
stderr:
  description: The last 20 lines that the project printed, without secrets.
  type: str
  returned: when the project could not be checked
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._settings_check import catalogue, check

EXPECTATION: dict[str, Any] = {
    "setting": {"type": "str", "required": True},
    "equals": {"type": "raw"},
    "one_of": {"type": "list", "elements": "raw"},
    "min": {"type": "float"},
    "max": {"type": "float"},
    "regex": {"type": "str"},
    "contains": {"type": "raw"},
    "min_length": {"type": "int"},
    "type": {"type": "str", "choices": ["bool", "int", "float", "str", "list", "dict", "null"]},
    "present": {"type": "bool"},
    "overridden": {"type": "bool"},
    "msg": {"type": "str"},
    "severity": {"type": "str", "choices": list(catalogue.SEVERITIES), "default": "error"},
}

ARGUMENTS: dict[str, Any] = {
    "chdir": {"type": "path", "required": True},
    "virtualenv": {"type": "path", "required": True, "aliases": ["venv"]},
    "application": {"type": "str"},
    "settings": {"type": "str"},
    "pythonpath": {"type": "list", "elements": "path", "default": []},
    "environment_files": {"type": "list", "elements": "str", "default": []},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "user": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
    "checks": {
        "type": "list",
        "elements": "str",
        "choices": list(catalogue.GROUPS),
        "default": list(catalogue.DEFAULT_GROUPS),
    },
    "databases": {"type": "list", "elements": "str", "default": ["default"]},
    "caches": {"type": "list", "elements": "str", "default": ["default"]},
    "workers": {"type": "int", "default": 2},
    "server": {"type": "str", "choices": ["wsgi", "asgi"], "default": "wsgi"},
    "pooler": {"type": "str", "choices": ["auto", "none", "session", "transaction"], "default": "auto"},
    "public_urls": {"type": "list", "elements": "str", "default": []},
    "private_files": {"type": "list", "elements": "str", "default": []},
    "proxy_headers": {"type": "dict", "default": {"X-Forwarded-Proto": "https"}},
    "url_scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "expect": {"type": "list", "elements": "dict", "default": [], "options": EXPECTATION},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "severity": {"type": "dict", "default": {}},
    "fail_on": {"type": "str", "choices": [*catalogue.SEVERITIES, "never"], "default": "error"},
    "return_settings": {"type": "str", "choices": ["none", "overridden", "all"], "default": "none"},
    # Patterns of names, and no secrets themselves.
    "secret_patterns": {"type": "list", "elements": "str", "default": [], "no_log": False},
}

HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
# Ansible masks a value wherever it occurs, also in the middle of a word.
SHORTEST_MASKED = 8


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = dict(module.params)
    for name in ("environment", "secrets"):
        # Ansible older than 2.21 returns them at -vvv.
        module.params[name] = dict.fromkeys(options[name], HIDDEN)
    checked = check.Check(options, module.check_mode)
    answer = checked.run()
    # Not everything in an environment is a secret: Ansible would mask each "1" and "true" of it in all of the answer.
    module.no_log_values = {secret for secret in checked.secrets if len(secret) >= SHORTEST_MASKED}
    if answer.pop("failed", False):
        module.fail_json(**answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
