"""Environment files as nobody should write them, and what systemd makes of them on the machine that this runs on.

    envfiles.py COUNT    print as JSON what services get from that many generated files

It is sent to test hosts as it is, so it has no imports of its own.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

FOLDER = Path("/run/envfiles")
# For each file, systemd looks through all variables of the files before it.
BATCH = 50

NAMES = "A B_C _x long_name_9 D E".split()
STRANGE_NAMES = ["A-B", "A.B", "A B", "Ä", '"A"', "'A'", "$A", "A\\", "A\v", "ﬁ", "[A", "A\u00a0", "{}"]
TEXTS = [
    *["", "1", "word", "two words", "p@ss\\word", "a\\nb", "$HOME/x", "p$w", "${A}x", "`id`", "100%", "%h", "a=b=c"],
    *["it's", 'x"y"', "a # c", "#fff", "; c", "naïve", "日本", "🦄", "\u00a0", "\v", "\f", "\x01", "\x7f", "\u0085"],
    *["a\\\\b", "\\$x", '\\"', "\\'", "\\`", "\\", "\\ ", "a\\ ", "\t", "  ", "\ufeff", "\ud7ff", "\ue000", "\ufffd"],
    *["postgres://u:p%40@h/db?a=b#c", "-----BEGIN KEY-----\nAb+/cd==\n-----END KEY-----", "{'a': \"b\"}", "a\\\n b"],
]
COMMENTS = ["# c", "; c", "#", ";", "# c \\", "#\\", "; it's", '# "', "# \\\\", "# A=1", "#\u00e9"]
ENDS = ["\n"] * 12 + ["\r\n"] * 4 + ["\r", "\n\n", "\\\n", "\\\r\n", " \n", "\t\n", " \\\n", "", "\n \n"]
SPACES = [""] * 6 + [" ", "\t", "  ", " \t", "\v", "\\\n"]
SOUP = [
    "'",
    '"',
    "\\",
    "\\\n",
    "\n",
    "\r",
    "\r\n",
    " ",
    "\t",
    "#",
    ";",
    "=",
    "$",
    "`",
    "a",
    "n",
    "é",
    "\v",
    "\n#",
    "\n;",
]
# Overlong, cut off, out of range, a surrogate, bytes alone; then what is UTF-8, but reserved, and nothing at all.
BROKEN = [
    b"\xc0\xaf",
    b"\xe2\x82",
    b"\xf4\x90\x80\x80",
    b"\xed\xa0\x80",
    b"\x80",
    b"\xff",
    b"\xc3",
    b"\xa9",
    b"\xc3\\\xa9",
]
BROKEN += [
    b"\xc3''\xa9",
    b"\xef\xbf\xbe",
    b"\xef\xb7\x90",
    b"\xf0\x9f\xbf\xbf",
    b"\xef\xbf\xbf",
    b"\xef\xb7\xb0",
    b"\0",
]


def generate(seed: int, prefix: str = "") -> bytes:
    """Make a file, always the same one for a seed; names begin with the prefix, as far as they are names at all."""
    chance = random.Random(seed)  # noqa: S311
    text = _soup(chance, prefix) if chance.random() < 0.4 else _lines(chance, prefix)
    if chance.random() < 0.03:
        text = "\ufeff" + text
    content = text.encode()
    if chance.random() < 0.1:
        place = chance.randrange(len(content) + 1)
        content = content[:place] + chance.choice(BROKEN) + content[place:]
    return content


def _lines(chance: random.Random, prefix: str) -> str:
    return "".join(_line(chance, prefix) + chance.choice(ENDS) for _number in range(chance.randint(1, 12)))


def _line(chance: random.Random, prefix: str) -> str:
    kind = chance.random()
    if kind < 0.15:
        return chance.choice(["", " ", "\t"]) + chance.choice(COMMENTS)
    name = prefix + chance.choice(NAMES)
    if kind < 0.25:
        name = chance.choice(["export ", "set ", "1", "=", " ", "-", "é"]) + name
    elif kind < 0.32:
        name = prefix + chance.choice(STRANGE_NAMES)
    elif kind < 0.35:
        return name
    return chance.choice(SPACES) + name + chance.choice(SPACES) + "=" + chance.choice(SPACES) + _value(chance)


def _value(chance: random.Random) -> str:
    return "".join(_part(chance) for _number in range(chance.choice([1, 1, 1, 2, 3]))) + chance.choice(SPACES)


def _part(chance: random.Random) -> str:
    text = chance.choice(TEXTS)
    opening = chance.choice(["", "'", '"'])
    closing = opening if chance.random() < 0.9 else chance.choice(["", "'", '"'])
    return opening + text + closing + chance.choice(["", "", "", " ", " # c", "\\"])


def _soup(chance: random.Random, prefix: str) -> str:
    """What has a meaning for systemd, in no order."""
    words = [*SOUP, *[f"\n{prefix}{name}=" for name in NAMES], f" {prefix}A", f"{prefix}B=", "\nexport "]
    return f"{prefix}A=" + "".join(chance.choices(words, k=chance.randint(1, 40)))


def name_of(seed: int) -> str:
    return f"{seed:05}"


def prefix_of(seed: int) -> str:
    return f"F{seed}_"


def content_of(seed: int) -> bytes:
    return generate(seed, prefix_of(seed))


def digest(count: int) -> str:
    """Tell whether two machines generate the same files."""
    return hashlib.sha256(b"".join(content_of(seed) for seed in range(count))).hexdigest()


def environment_of_a_service(files: list[str]) -> dict[str, str] | None:
    """Ask systemd; it starts nothing if it does not like a file."""
    properties = [f"--property=EnvironmentFile={file}" for file in files]
    command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties, "/usr/bin/env", "-0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        return None
    return dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0")[:-1])


def batches(count: int) -> list[list[str]]:
    """The files of each service; those that systemd would refuse are left out by it, for the "-"."""
    files = [f"-{FOLDER}/{name_of(seed)}" for seed in range(count)]
    return [files[start : start + BATCH] for start in range(0, count, BATCH)]


def main() -> None:
    count = int(sys.argv[1])
    FOLDER.mkdir(exist_ok=True)
    for seed in range(count):
        (FOLDER / name_of(seed)).write_bytes(content_of(seed))
    alone = [f"{FOLDER}/{name_of(seed)}" for seed in range(min(count, 100))]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(environment_of_a_service, batches(count)))
        strict = list(pool.map(lambda file: environment_of_a_service([file]) is not None, alone))
    version = subprocess.run(["systemctl", "--version"], capture_output=True, check=True, text=True).stdout.split()[1]
    result = {
        "version": int(version),
        "digest": digest(count),
        "without_files": environment_of_a_service([]),
        "batches": together,
        "accepted_alone": strict,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
