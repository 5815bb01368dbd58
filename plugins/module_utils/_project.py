# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the files of a Django project tell about how it is deployed. They are read, never run."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Mapping

Texts = Mapping[str, str]

# Folders in which a manage.py is rarely that of the site.
SIDELINE = re.compile(r"(^|/)(docs?|examples?|demos?|sandbox|samples?|templates?|tools|scripts)/")
SETTINGS_MODULE = re.compile(r"DJANGO_SETTINGS_MODULE['\"]\W[^'\"]{0,60}['\"]([A-Za-z_][\w.]*)['\"]")
PRODUCTION = ("production", "prod", "settings_production", "production_settings", "settings_prod", "prod_settings")
IS_SETTINGS = re.compile(r"^(from \S+ import \*|(DEBUG|ALLOWED_HOSTS|DATABASES|INSTALLED_APPS)\s*=)", re.MULTILINE)
IMPORT = re.compile(r"^\s*from\s+(?:(\S+)\s+import\s+\*|(\.[\w.]*)\s+import\s)", re.MULTILINE)
CALLABLE = re.compile(r"^(application|app)\s*(?::[^=\n]+)?=", re.MULTILINE)
CHANNELS = re.compile(r"^\s*(from|import)\s+channels\b|['\"]channels['\"]", re.MULTILINE)
CELERY = re.compile(r"^\w+\s*(?::[^=\n]+)?=\s*(celery\.)?Celery\(", re.MULTILINE)
PERIODIC = re.compile(r"beat_schedule|django_celery_beat|periodic_task", re.IGNORECASE)
# A variable of the environment, by the ways in which settings usually read one.
READ = re.compile(
    r"(?P<how>\benv(?:iron)?(?:\.\w+)*|\bgetenv|\bconfig|\bget_env\w*)\s*[(\[]\s*"
    r"['\"](?P<name>[A-Z][A-Z0-9_]*)['\"]\s*(?P<end>[)\]]?)"
)
# What such a variable is for, by the setting or the key in a setting that it becomes, or by the function that reads it.
SETTINGS = ("SECRET_KEY", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "CELERY_BROKER_URL")
KEYS = {
    "DATABASES": {key: f"DB_{key}" for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")},
    "CACHES": {"LOCATION": "REDIS_URL"},
}
FUNCTIONS = {"db": "DATABASE_URL", "db_url": "DATABASE_URL", "dj_db_url": "DATABASE_URL", "cache": "CACHE_URL"}
# What a deployment finds by itself, the best first (roles/django_app/files/pack.py).
USUAL = (
    *("uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "requirements.txt"),
    *("requirements/prod*.txt", "requirements-prod*.txt", "pyproject.toml"),
)
# A pyproject.toml may be there for the sake of tools alone.
LISTS = re.compile(r"^(dependencies\s*=|\[\[packages\]\])", re.MULTILINE)
# Of requirement files in unusual places, the one for production; never those for developers.
REQUIREMENTS = re.compile(r"(.*/)?([\w.-]*requirements[\w.-]*|requirements/[\w.-]+)\.txt\Z")
FOR_DEVELOPERS = re.compile(r"dev|local|test|lint|doc|ci\b", re.IGNORECASE)
FOR_PRODUCTION = ("prod", "deploy", "live", "base", "common", "main", "requirements")
# What pip cannot read, and how to make of it something that it can.
FOREIGN = {
    "Pipfile": "pipenv lock",
    "setup.py": "echo . > requirements.txt",
    "environment.yml": "pip freeze > requirements.txt",
    "environment.yaml": "pip freeze > requirements.txt",
}


class UnfitError(ValueError):
    """What the project lacks."""


class Project:
    """The modules of a project, named as they are imported from the folder of its manage.py."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self.directory, *self.others = self._folders()
        self.start = "" if self.directory == "." else f"{self.directory}/"
        self.servers = [path for name in ("wsgi.py", "asgi.py") for path in self.below(name)]
        if not self.servers:
            raise UnfitError(
                f"has {self.start}manage.py, but no wsgi.py or asgi.py there, so nothing that could be served"
            )
        # The folder below that has the packages, such as src/; usually it is that of manage.py itself.
        self.path = ""
        self.settings = self._settings()
        self.servers = [path for path in self.servers if path.startswith(self.start + self.path)] or self.servers
        self.package = self.settings.split(".")[0]

    def _folders(self) -> list[str]:
        """Return the folders from which a project is imported, the likeliest first: those that have a manage.py."""
        found = [path for path in self.below("manage.py", ".") if re.search("django", self.texts[path], re.IGNORECASE)]
        folders = [posixpath.dirname(path) or "." for path in found] or self._without_manage()
        if not folders:
            raise UnfitError("has no Django project in it: none of its folders has a manage.py or wsgi.py of Django")

        def rank(folder: str) -> tuple[bool, bool]:
            served = self.below("wsgi.py", folder) or self.below("asgi.py", folder)
            return not served, bool(SIDELINE.search(f"{folder}/"))

        return sorted(folders, key=rank)

    def _without_manage(self) -> list[str]:
        """Return the folders that have the package whose settings a wsgi.py or asgi.py names."""
        folders = []
        for path in [*self.below("wsgi.py", "."), *self.below("asgi.py", ".")]:
            for package in SETTINGS_MODULE.findall(self.texts[path])[:1]:
                start, found, _rest = f"/{path}".partition(f"/{package.split('.')[0]}/")
                folders += [start.strip("/") or "."] if found else []
        return list(dict.fromkeys(folders))

    def below(self, name: str, folder: str | None = None) -> list[str]:
        """Return the paths of all files of a name in a folder, those in the upper folders first."""
        folder = self.directory if folder is None else folder
        start = "" if folder == "." else f"{folder}/"
        found = [path for path in self.texts if path.startswith(start) and posixpath.basename(path) == name]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def file(self, module: str) -> str:
        """Return the path of a module, or nothing."""
        inner = f"{self.start}{self.path}{module.replace('.', '/')}"
        return next((path for path in (f"{inner}.py", f"{inner}/__init__.py") if path in self.texts), "")

    def module(self, path: str) -> str:
        inner = path[len(self.start + self.path) : -len(".py")].replace("/", ".")
        return inner.removesuffix(".__init__")

    def _settings(self) -> str:
        """Name the settings for production: those that the server loads by itself, or better ones beside them."""
        sources = [*self.servers, f"{self.start}manage.py"]
        named: list[str] = [name for path in sources for name in SETTINGS_MODULE.findall(self.texts.get(path, ""))]
        named = list(dict.fromkeys(named)) or [self.module(path) for path in self.below("settings.py")]
        if not named:
            raise UnfitError("has no settings: neither manage.py nor wsgi.py names a DJANGO_SETTINGS_MODULE")
        self.path = self._path(named[0].split(".")[0])
        for module in named:
            folders = (module, module.rpartition(".")[0])
            beside = [f"{folder}.{name}".lstrip(".") for folder in folders for name in PRODUCTION]
            if module.split(".")[-1] in PRODUCTION:
                beside.insert(0, module)
            for candidate in beside:
                if IS_SETTINGS.search(self.texts.get(self.file(candidate), "")):
                    return candidate
        return next((module for module in named if self.file(module)), named[0])

    def _path(self, package: str) -> str:
        """Return the folder, seen from manage.py, that has the package."""
        inner = [path[len(self.start) :] for path in self.texts if path.startswith(self.start)]
        if any(path.startswith((f"{package}/", f"{package}.py")) for path in inner):
            return ""
        return next((path[: path.index(f"/{package}/") + 1] for path in sorted(inner) if f"/{package}/" in path), "")

    def application(self) -> str:
        """Name the callable to serve. ASGI only where it is needed: for WebSockets by Channels."""
        settings = "\n".join(self.settings_texts())
        asgi = [path for path in self.servers if path.endswith("asgi.py")]
        channels = any(CHANNELS.search(self.texts[path]) for path in asgi) or CHANNELS.search(settings)
        candidates = [path for path in self.servers if path not in asgi] or asgi
        if asgi and channels:
            candidates = asgi
        # Of several, the one that the settings name, or the one beside them.
        named = re.findall(r"^[AW]SGI_APPLICATION\s*=\s*['\"]([\w.]+)\.\w+['\"]", settings, re.MULTILINE)
        own = [path for path in candidates if self.module(path) in named]
        own += [path for path in candidates if self.module(path).split(".")[0] == self.package]
        path = [*own, *candidates][0]
        names = [found.group(1) for found in CALLABLE.finditer(self.texts[path])]
        return f"{self.module(path)}:{'app' if names and 'application' not in names else 'application'}"

    def settings_texts(self) -> list[str]:
        """Return the settings and what they are made of, without comments."""
        pending, found = [self.settings], dict[str, str]()
        while pending:
            module = pending.pop()
            path = self.file(module)
            if not path or path in found:
                continue
            found[path] = re.sub(r"^\s*#.*", "", self.texts[path], flags=re.MULTILINE)
            package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
            for absolute, relative in IMPORT.findall(found[path]):
                pending.append(_resolved(absolute or relative, package))
        return list(found.values())

    def variables(self) -> dict[str, bool]:
        """Return the variables of the environment that the settings read, and whether they cannot do without."""
        text = "\n".join(self.settings_texts())
        found: dict[str, bool] = {}
        for read in READ.finditer(text):
            # os.environ.get() gives None, and Env(NAME=(str, "x")) a default.
            mild = read["how"].endswith(("get", "getenv", "setdefault")) or re.search(
                rf"\b{read['name']}\s*=\s*\(", text
            )
            found[read["name"]] = found.get(read["name"], False) or bool(read["end"] and not mild)
        return found

    def meanings(self) -> dict[str, str]:
        """Return what variables mean whatever they are called, by the usual names."""
        text = "\n".join(self.settings_texts())
        found: dict[str, str] = {}
        # Of several, the first is that of the default.
        for read in READ.finditer(text):
            ours = FUNCTIONS.get(read["how"].split(".")[-1], "")
            if ours and ours not in found.values():
                found[read["name"]] = ours
        for setting in SETTINGS:
            for read in re.finditer(rf"^\s*{setting}\s*(?::[^=\n]+)?=[^\n]*?{READ.pattern}", text, re.MULTILINE):
                found[read["name"]] = setting
        for setting, keys in KEYS.items():
            block = re.search(rf"^([ \t]*){setting}\s*(?::[^=\n]+)?=\s*\{{.*?^\1\}}", text, re.MULTILINE | re.DOTALL)
            for key, ours in keys.items():
                first = re.search(rf"['\"]{key}['\"]\s*:[^,\n]*?{READ.pattern}", block[0] if block else "")
                if first:
                    found[first["name"]] = ours
        return found

    def celery(self) -> str:
        """Return the path of the module that makes the app of Celery, or nothing."""
        found = [path for path, text in self.texts.items() if path.startswith(self.start) and CELERY.search(text)]
        return next(iter(sorted(found, key=lambda path: (self.module(path).split(".")[0] != self.package, path))), "")

    def celery_texts(self) -> str:
        return "\n".join([*self.settings_texts(), self.texts[self.celery()]])

    def is_periodic(self) -> bool:
        return bool(PERIODIC.search(self.celery_texts()))

    def requirements(self) -> list[str] | None:
        """Return the files to name, none where a usual one is found by itself; None where there are no requirements."""
        for pattern in USUAL:
            for start in (self.start, ""):
                place = f"{start}{pattern}"
                found = [path for path in fnmatch.filter(self.texts, place) if path.count("/") == place.count("/")]
                if len(found) == 1 and (found[0][-5:] != ".toml" or LISTS.search(self.texts[found[0]])):
                    return []
        there = [path for path in self.texts if REQUIREMENTS.match(path) and not FOR_DEVELOPERS.search(path)]

        def rank(path: str) -> tuple[bool, int, str]:
            words = [place for place, word in enumerate(FOR_PRODUCTION) if word in posixpath.basename(path)]
            return not path.startswith(self.start), min(words, default=len(FOR_PRODUCTION)), path

        if there:
            return [min(there, key=rank)]
        for name, remedy in FOREIGN.items():
            if name in self.texts or f"{self.start}{name}" in self.texts:
                raise UnfitError(
                    f"names its requirements in {name} only, which is not read here; put beside it: {remedy}"
                )
        return None

    def django(self) -> str:
        """Return a requirement for the version of Django that made the project."""
        release = re.search(r"using Django (\d+\.\d+)", "\n".join(self.settings_texts()))
        return f"django=={release.group(1)}.*" if release else "django"


def _resolved(name: str, package: str) -> str:
    """Return the full name of a module that is imported in a package."""
    dots = len(name) - len(name.lstrip("."))
    if not dots:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - dots + 1], *filter(None, [name[dots:]])])
