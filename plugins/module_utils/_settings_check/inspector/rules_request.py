"""What Django makes of a request as the proxy sends it. No view is called, and no database."""

from __future__ import annotations

import io
from typing import Any, Dict, Iterable, Optional
from urllib.parse import urlsplit

from .registry import Context, Finding, finding, rule
from .values import first_of, items, value

SECURITY = "django.middleware.security.SecurityMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
PORTS = {"http": 80, "https": 443}


def no_response(request: Any) -> Any:
    raise AssertionError(request)


def host_header(url: str) -> str:
    """What a browser sends as Host: the port only where it is not the usual one."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    return name if parts.port in (None, PORTS.get(parts.scheme)) else f"{name}:{parts.port}"


def request_of(context: Context, url: str, method: str) -> Any:
    """Build what comes in by way of the proxy, with the headers that it adds and the scheme that the server tells."""
    from django.core.handlers.wsgi import WSGIRequest

    host = host_header(url)
    meta: Dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": "/",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": host,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "",
        "HTTP_HOST": host,
        "wsgi.url_scheme": context.options.get("url_scheme") or "http",
        "wsgi.input": io.BytesIO(),
    }
    if method == "POST":
        meta["HTTP_ORIGIN"] = f"{urlsplit(url).scheme}://{host}"
    for name, text in (context.options.get("proxy_headers") or {}).items():
        # One host name cannot stand for several addresses.
        meta["HTTP_" + name.upper().replace("-", "_")] = host if name.lower() == "x-forwarded-host" else str(text)
    return WSGIRequest(meta)


def insecure(context: Context, request: Any, url: str) -> Finding:
    """Why a request that was sent by HTTPS does not count as such."""
    given = value(context, "SECURE_PROXY_SSL_HEADER")
    header = given[0] if isinstance(given, (list, tuple)) and given else None
    if header and header not in request.META:
        message = f"SECURE_PROXY_SSL_HEADER names {header}, which the proxy does not send"
        return finding("proxy_header_name", "SECURE_PROXY_SSL_HEADER", message, url)
    middleware = first_of(items(context, "MIDDLEWARE"), SECURITY)
    answer = middleware(no_response).process_request(request) if middleware else None
    loops = answer is not None and answer.get("Location") == f"https://{host_header(url)}{request.get_full_path()}"
    return finding("redirect_loop" if loops else "not_secure_behind_proxy", "SECURE_PROXY_SSL_HEADER", subject=url)


def csrf_origin_rejected(context: Context, url: str) -> Optional[Finding]:
    middleware = first_of(items(context, "MIDDLEWARE"), CSRF)
    # Not a name that Django promises to keep.
    verified = getattr(middleware(no_response) if middleware else None, "_origin_verified", None)
    if verified is None or verified(request_of(context, url, "POST")):
        return None
    return finding("csrf_origin_rejected", "CSRF_TRUSTED_ORIGINS", subject=url)


@rule("request")
def requests(context: Context) -> Iterable[Finding]:
    from django.core.exceptions import DisallowedHost

    for url in context.options.get("public_urls") or ():
        request = request_of(context, url, "GET")
        try:
            request.get_host()
        except DisallowedHost:
            yield finding("host_rejected", "ALLOWED_HOSTS", f"{host_header(url)} gets 400 Bad Request", url)
            continue
        # That forms are rejected then has the same cause.
        if urlsplit(url).scheme == "https" and not request.is_secure():
            yield insecure(context, request, url)
            continue
        found = csrf_origin_rejected(context, url)
        if found:
            yield found
