"""What scanners that others wrote find: from another host of the network, and on the server itself."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

testinfra_hosts = ["ansible://site1"]

SITE = "guestbook.test"
# The authority of the tests publishes no list of what it has revoked.
WAIVED = {"cert_revocation"}
GRAVE = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
# What a container of this test bed cannot have, whatever a role does. A real server is judged with all of it.
PROFILE = """
# The kernel is that of the machine, which shares its settings: a container may not change them.
skip-test=KRNL-6000:dev.tty.ldisc_autoload
skip-test=KRNL-6000:fs.protected_fifos
skip-test=KRNL-6000:fs.protected_regular
skip-test=KRNL-6000:fs.protected_symlinks
skip-test=KRNL-6000:kernel.core_uses_pid
skip-test=KRNL-6000:kernel.ctrl-alt-del
skip-test=KRNL-6000:kernel.kptr_restrict
skip-test=KRNL-6000:kernel.unprivileged_bpf_disabled
# The test bed makes this machine a router, and its network namespaces inherit it.
skip-test=KRNL-6000:net.ipv4.conf.all.forwarding
# The kernel accounts and audits for the machine only.
skip-test=ACCT-9622
skip-test=ACCT-9628
# It has no USB.
skip-test=USB-3000
# Two ways to lock Redis that accounts with rights of their own (ACL) have replaced.
skip-test=DBS-1884
skip-test=DBS-1886
"""
# The highest exposure that `systemd-analyze security` may find in the units whose names begin like this.
EXPOSURE = {
    "gunicorn-": 1.0,
    "django-": 1.0,
    "redis-server.": 2.0,
    "pgbouncer.": 2.0,
    "nginx.": 2.6,
    "nginx-": 3.0,
    "backups-": 3.0,
    "postgresql@": 4.0,
}


def test_only_ssh_and_the_web_answer(outside: Any) -> None:
    seen = outside.check_output("nmap -Pn -n -p- -T4 -oG - site1")
    assert set(re.findall(r"(\d+)/open/", seen)) == {"22", "80", "443"}


@pytest.fixture(scope="module")
def testssl(outside: Any) -> dict[str, dict[str, str]]:
    """What testssl.sh has to say, by the name of each finding."""
    scan = f"testssl --quiet --color 0 --warnings off --add-ca /root/authority.pem --jsonfile /root/testssl.json {SITE}"
    outside.run(f"rm -f /root/testssl.json; {scan}")
    return {finding["id"]: finding for finding in json.loads(outside.check_output("cat /root/testssl.json"))}


def test_testssl_gives_the_best_grade_and_finds_nothing_grave(testssl: dict[str, dict[str, str]]) -> None:
    grave = {name: found["finding"] for name, found in testssl.items() if found["severity"] in GRAVE}
    assert {name: said for name, said in grave.items() if name not in WAIVED} == {}
    assert testssl["overall_grade"]["finding"] == "A+"


# --- ssl-baseline of dev-sec ---


@pytest.mark.parametrize(
    ("protocol", "offered"),
    [("SSLv2", False), ("SSLv3", False), ("TLS1", False), ("TLS1_1", False), ("TLS1_2", True)],
    ids=["ssl2", "ssl3", "tls1.0", "tls1.1", "tls1.2"],
)
def test_ssl_baseline_protocols(testssl: dict[str, dict[str, str]], protocol: str, offered: bool) -> None:
    assert testssl[protocol]["finding"].startswith("offered") is offered


@pytest.mark.parametrize(
    "pattern",
    [
        "ECDHE-",  # no key exchange by RSA, DH, KRB5, PSK, GOSTR or SRP
        "(?!.*(ADH|AECDH|DSS|PSK|EXP))",  # nobody anonymous
        "(?!.*(CBC|RC4|DES|NULL|CAMELLIA|SEED|IDEA|CCM)).*(GCM|CHACHA20)",
        ".*(SHA256|SHA384|POLY1305)$",
    ],
    ids=["kx", "au", "enc", "mac"],
)
def test_ssl_baseline_ciphers(testssl: dict[str, dict[str, str]], pattern: str) -> None:
    ciphers = testssl["supportedciphers_TLSv1_2"]["finding"].split()
    assert ciphers
    assert [cipher for cipher in ciphers if not re.match(pattern, cipher)] == []


def test_ssl_baseline_robot(testssl: dict[str, dict[str, str]]) -> None:
    assert testssl["ROBOT"]["severity"] == "OK"


# --- headers, the server itself, its services ---


def test_mozillas_observatory_gives_the_best_grade(outside: Any) -> None:
    scanner = "/opt/observatory/node_modules/@mdn/mdn-http-observatory/src/scan.js"
    scan = json.loads(outside.check_output(f"NODE_EXTRA_CA_CERTS=/root/authority.pem node {scanner} {SITE}"))
    cost = {name: test["result"] for name, test in scan["tests"].items() if test["scoreModifier"] < 0}
    assert (scan["scan"]["grade"], cost) == ("A+", {})
    assert scan["scan"]["score"] >= 120


def test_lynis_finds_a_hardened_server(host: Any) -> None:
    host.check_output(f"cat > /etc/lynis/custom.prf <<'END'\n{PROFILE}END")
    host.run("lynis audit system --quick --quiet --no-colors")
    report = host.check_output("cat /var/log/lynis-report.dat")
    index = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert index
    assert int(index.group(1)) >= 80, "\n".join(re.findall(r"^(?:warning|suggestion).*", report, re.MULTILINE))


def units(host: Any) -> list[str]:
    """Return the services of this collection on the server, with an instance for each template that has none."""
    listed = host.check_output("systemctl list-units --all --type=service --plain --no-legend")
    installed = host.check_output("systemctl list-unit-files --type=service --no-legend")
    names = {line.split()[0] for line in (*listed.splitlines(), *installed.splitlines())}
    return sorted(
        name.replace("backups-postgres@.", "backups-postgres@full.")
        for name in names
        if name.startswith(tuple(EXPOSURE)) and ("@." not in name or name.startswith("backups-"))
    )


def test_each_service_is_locked_in(host: Any) -> None:
    found = {}
    for unit in units(host):
        table = host.check_output(f"systemd-analyze security --no-pager {unit}")
        level = re.search(r"Overall exposure level for \S+: ([\d.]+)", table)
        assert level, table
        limit = next(limit for prefix, limit in EXPOSURE.items() if unit.startswith(prefix))
        found[unit] = (float(level.group(1)), limit)
    assert len({unit.split("-")[0] for unit in found}) >= 6, found
    assert {unit: both for unit, both in found.items() if both[0] > both[1]} == {}
