"""What strangers, administrators and their services meet on a hardened server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra
from server import ADDRESS, EPHEMERAL, OPTIONS, SCAN, TABLE, listen, play, reboot, silence, ssh  # beside this file

testinfra_hosts = ["ansible://site1"]

OURS = "find /etc -path '*groundwork*' -type f"


@pytest.fixture(scope="module")
def outside() -> Any:
    """The host of a stranger."""
    return testinfra.get_host("ansible://outside1", ansible_inventory=str(EPHEMERAL / "inventory"))


@pytest.fixture
def services(host: Any) -> Iterator[None]:
    """Programs that wait for anybody, on the usual ports of the web and on two others."""
    host.check_output(listen(80, 443, 5432, 8000))
    yield
    host.check_output(silence(80, 443, 5432, 8000))


def answering(outside: Any, *ports: str) -> set[int]:
    seen = outside.check_output(f"{SCAN} {' '.join(ports) or '-p 1-10000'} site1")
    return {int(port) for port in re.findall(r"(\d+)/open/", seen)}


@pytest.mark.usefixtures("services")
def test_a_stranger_finds_ssh_and_the_web_and_nothing_else(outside: Any) -> None:
    assert answering(outside) == {22, 80, 443}


def test_ping_is_answered(outside: Any) -> None:
    assert "Host is up" in outside.check_output("nmap -sn -n -PE --disable-arp-ping site1")


def test_the_server_reaches_others(host: Any) -> None:
    host.check_output("apt-get update")


@pytest.mark.usefixtures("services")
def test_what_the_inventory_opens_is_open_for_whom_it_says_and_open_connections_and_other_tables_go_on(
    host: Any, outside: Any
) -> None:
    host.check_output(
        "nft 'table inet admin { chain input { type filter hook input priority 10; tcp dport 8000 counter; }; }'"
    )
    host.check_output("printf 'Port 22\\nPort 2222\\n' >/etc/ssh/sshd_config.d/10-own.conf; systemctl restart ssh")
    with subprocess.Popen(
        ssh("read word; echo $word"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as before:
        opened = (
            f"[{{port: 8000, from: [{ADDRESS['outside1']}]}}, {{port: 5432, from: [192.0.2.0/24, '2001:db8::/32']}}]"
        )
        run = play("-e", f"{{hardening_firewall_open: {opened}}}")
        assert run.returncode == 0, run.stdout
        assert before.communicate("goes on\n")[0] == "goes on\n"
    assert answering(outside, "-p 1-10000") == {22, 80, 443, 2222, 8000}
    assert subprocess.run(ssh("true", port=2222), check=False).returncode == 0
    assert re.search("counter packets [1-9]", host.check_output("nft list table inet admin"))


def test_what_was_changed_by_hand_is_named_by_a_check_and_repaired(host: Any, outside: Any) -> None:
    host.check_output("rm /etc/ssh/sshd_config.d/10-own.conf; systemctl restart ssh; nft delete table inet admin")
    host.check_output("systemctl stop groundwork-firewall; echo >>/etc/sysctl.d/60-groundwork.conf")
    host.check_output("sysctl -w net.ipv4.conf.all.log_martians=0")
    checked = play("--check", "--diff")
    assert checked.returncode == 0, checked.stdout
    assert "/etc/sysctl.d/60-groundwork.conf" in checked.stdout
    assert host.run(TABLE).rc != 0
    assert play().returncode == 0
    assert host.check_output("sysctl -n net.ipv4.conf.all.log_martians") == "1"
    assert answering(outside, "-p 22,2222,8000") == {22}


def test_what_shuts_everybody_out_is_taken_back(host: Any) -> None:
    watcher = (
        "until systemctl is-active groundwork-undo.timer; do sleep 0.1; done;"
        "nft 'table inet wall { chain input { type filter hook input priority 5; tcp dport 22 ct state new drop; }; }';"
        "while systemctl is-active groundwork-undo.timer; do sleep 0.1; done; nft delete table inet wall"
    )
    host.check_output("rm /etc/ssh/sshd_config.d/60-groundwork.conf; systemctl reload ssh")
    host.check_output(
        f'systemctl stop groundwork-firewall; systemd-run --quiet --collect --unit=wall sh -c "{watcher}"'
    )
    run = play("-e", "__hardening_undo_seconds=15", "--timeout", "3")
    assert "UNREACHABLE" in run.stderr, run.stdout
    while subprocess.run(ssh("true"), check=False).returncode:
        pass
    assert host.run("test -e /etc/ssh/sshd_config.d/60-groundwork.conf").rc == 1
    assert host.run(TABLE).rc != 0
    assert host.check_output("systemctl is-enabled groundwork-firewall || true") == "disabled"
    assert play().returncode == 0
    assert host.run("test -e /etc/ssh/sshd_config.d/60-groundwork.conf").rc == 0


def test_a_password_opens_nothing(outside: Any) -> None:
    refused = outside.run(
        "ssh -o StrictHostKeyChecking=no -o PreferredAuthentications=password root@site1 true 2>&1 || true"
    )
    assert "Permission denied (publickey)" in refused.stdout


def test_a_crash_leaves_no_memory_on_the_disk() -> None:
    shown = subprocess.run(ssh("ulimit -Hc"), capture_output=True, text=True, check=True)
    assert shown.stdout == "0\n"


def test_a_weak_password_is_not_taken_from_who_is_not_root(host: Any) -> None:
    host.check_output("useradd ada; echo ada:Tr0ub4dor-and-more | chpasswd")
    tried = host.run("printf 'Tr0ub4dor-and-more\\nshop1234\\nshop1234\\n' | runuser -u ada -- passwd 2>&1")
    host.check_output("userdel ada")
    assert "BAD PASSWORD" in tried.stdout


def test_security_updates_are_installed_and_nothing_else(host: Any) -> None:
    tried = host.check_output("unattended-upgrade --dry-run --debug 2>&1")
    release = host.check_output(". /etc/os-release; echo $VERSION_CODENAME")
    assert f"Allowed origins are: origin=Debian,codename={release}-security,label=Debian-Security\n" in tried
    dump = host.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in dump
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in dump
    assert host.run("systemctl is-active apt-daily.timer apt-daily-upgrade.timer").rc == 0
    assert "NEEDRESTART_MODE=a" in host.check_output("systemctl show -p Environment apt-daily-upgrade.service")


def test_another_firewall_stays_alone(host: Any) -> None:
    host.check_output("mkdir -p /etc/ufw; echo ENABLED=yes >/etc/ufw/ufw.conf")
    run = play()
    host.check_output("rm -r /etc/ufw")
    assert "The firewall of this server is ufw, and stays." in run.stdout
    assert host.run(TABLE).rc != 0
    assert host.run("systemctl cat groundwork-firewall").rc != 0


SWITCHES = "firewall sshd upgrades time journal kernel accounts".split()


def test_what_is_switched_off_takes_its_files_away(host: Any) -> None:
    assert len(host.check_output(OURS).splitlines()) > 8
    run = play(*(word for switch in SWITCHES for word in ("-e", f"{{hardening_{switch}: false}}")))
    assert run.returncode == 0, run.stdout
    assert host.check_output(OURS) == ""
    assert "passwordauthentication yes" in host.check_output("sshd -T")


def test_who_would_be_cut_off_is_named_before_anything_changes(host: Any) -> None:
    host.check_output(f"{listen(8000)}; useradd bob; echo bob:Tr0ub4dor-and-more | chpasswd")
    host.check_output("timeout 20 sh -c 'until ss -Hltn sport = 8000 | grep -q .; do sleep 0.1; done'")
    run = play()
    host.check_output(f"{silence(8000)}; userdel bob")
    assert run.returncode == 2
    said = " ".join(run.stderr.split())
    assert "python3 listens on tcp port 8000, which the firewall would close." in said
    assert "bob has a password and no key" in said
    assert "changed=0" in run.stdout
    assert host.check_output(OURS) == ""


def test_who_knows_what_is_cut_off_can_do_so(host: Any) -> None:
    host.check_output(listen(8000))
    run = play("-e", "hardening_firewall_anyway=true")
    host.check_output(silence(8000))
    assert run.returncode == 0, run.stdout
    assert host.run(TABLE).rc == 0


def test_all_of_it_is_there_after_a_reboot(host: Any, outside: Any) -> None:
    reboot()
    assert host.check_output("systemctl is-system-running") == "running"
    units = "groundwork-firewall network-pre.target systemd-networkd"
    times = host.check_output(f"systemctl show --value -p ActiveEnterTimestampMonotonic {units}").split()
    assert 0 < int(times[0]) <= int(times[1]) <= int(times[2])
    host.check_output(listen(80, 8000))
    assert answering(outside, "-p 22,80,8000") == {22, 80}
    host.check_output(silence(80, 8000))
    assert host.check_output("sysctl -n net.ipv4.conf.all.send_redirects") == "0"
    assert int(host.check_output("journalctl --list-boots | wc -l")) > 1


def test_the_rules_of_an_administrator_can_be_loaded_at_any_time(host: Any) -> None:
    for verb in ("start", "restart", "reload"):
        host.check_output(f"systemctl {verb} nftables; timeout 5 sh -c 'until {TABLE}; do sleep 0.1; done'")
    host.check_output("nft delete table inet filter")


def test_an_unknown_client_gets_no_old_algorithm() -> None:
    for old in ("KexAlgorithms=ecdh-sha2-nistp256", "MACs=hmac-sha2-256", "HostKeyAlgorithms=ecdsa-sha2-nistp256"):
        ciphers = ["-o", "Ciphers=aes128-ctr"]  # with GCM there is no MAC to agree on
        tried = ["ssh", *OPTIONS, *ciphers, "-o", old, f"root@{ADDRESS['site1']}", "true"]
        refused = subprocess.run(tried, capture_output=True, text=True, check=False)
        assert "no matching" in refused.stderr, old
