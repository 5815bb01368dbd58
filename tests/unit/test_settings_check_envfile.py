"""Environment files are read as systemd reads them, and what looks different from what it is gets told."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._settings_check.envfile import SYSTEMD, EnvFileError, parse, read

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from envfiles import generate  # noqa: E402  shared with the scenario that asks systemd itself

PATH = "/etc/shop/env"
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/systemd/libsystemd-shared-*.so"))), None)


def variables(text: str, version: int = SYSTEMD) -> dict[str, str]:
    return parse(text.encode(), PATH, version).variables


def findings(text: str) -> list[tuple[str, str]]:
    return [(found["id"], found["message"]) for found in parse(text.encode(), PATH).findings]


def ids(text: str) -> list[str]:
    return [identity for identity, _message in findings(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1 # c", {"A": "1 # c"}),
        ('A="1" # c', {"A": "1# c"}),
        ("export A=1", {}),
        ("\ufeffA=1\nB=2", {"B": "2"}),
        ("A-B=1", {}),
        ("1A=1", {}),
        ("=1", {}),
        ("A", {}),
        ("A=p@ss\\word", {"A": "p@ssword"}),
        ("A='p@ss\\word'", {"A": "p@ss\\word"}),
        ('A="a\\nb"', {"A": "a\\nb"}),
        ("A=a\\nb", {"A": "anb"}),
        ('A="\\$x \\"q\\" \\`c\\` \\\\"', {"A": '$x "q" `c` \\'}),
        ("A=$HOME/x", {"A": "$HOME/x"}),
        ("A=p$w", {"A": "p$w"}),
        ("A='it''s'", {"A": "its"}),
        ('A="x"y', {"A": "xy"}),
        ('A="x" "y"', {"A": "xy"}),
        ('A=x"y"', {"A": 'x"y"'}),
        ("A='open\nB=2", {"A": "open\nB=2"}),
        ('A="open\\', {"A": "open"}),
        ("A=1\\\nB=2", {"A": "1B=2"}),
        ('A="1\\\n2"', {"A": "12"}),
        ("A=1\\", {"A": "1"}),
        ("A = 1", {"A": "1"}),
        ("  A=1", {"A": "1"}),
        ("A=1  \t", {"A": "1"}),
        ("A=1\\ ", {"A": "1 "}),
        ("A='1 '", {"A": "1 "}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\rB=2", {"A": "1", "B": "2"}),
        ("A=", {"A": ""}),
        ("A==1", {"A": "=1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("; c\n# c\nA=1", {"A": "1"}),
        ("A=naïve", {"A": "naïve"}),
        ("", {}),
    ],
)
def test_a_line_means_what_it_means_to_systemd(text: str, expected: dict[str, str]) -> None:
    assert variables(text) == expected
    assert variables(text + "\n") == expected or text.endswith(("\\", "B=2"))


def test_a_comment_that_ends_in_a_backslash_takes_the_next_line_along_in_debian_12() -> None:
    text = "# c:\\\nA=1\nB=2\n"
    assert variables(text) == {"A": "1", "B": "2"}
    assert variables(text, 252) == {"B": "2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\nB=2\nC=\xff\n", "/etc/shop/env: invalid UTF-8 on line 3; systemd refuses the whole file"),
        (b"A=1\n\xc3-B=2\n", "/etc/shop/env: invalid UTF-8 on line 2; systemd refuses the whole file"),
        (b"A='\n\n\xff'", "/etc/shop/env: invalid UTF-8 on line 3; systemd refuses the whole file"),
        ("A=1\nB=\ufffe".encode(), "/etc/shop/env: invalid UTF-8 on line 2; systemd refuses the whole file"),
        (b"# c\n\0", "/etc/shop/env: a NUL byte on line 2; systemd refuses the whole file"),
    ],
)
def test_a_file_that_systemd_refuses_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(EnvFileError) as error:
        parse(content, PATH)
    assert str(error.value) == message


def test_in_a_comment_anything_may_stand() -> None:
    assert parse(b"# \xff\nA=1\n", PATH).variables == {"A": "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A=1\nexport SECRET_KEY=hunter22",
            ("envfile_export", 'line 2: "export SECRET_KEY" is not a valid variable name; systemd drops this line'),
        ),
        ("A-B=1", ("envfile_dropped_line", 'line 1: "A-B" is not a valid variable name; systemd drops this line')),
        ("\n\nhunter22", ("envfile_dropped_line", 'line 3: there is no "=" on it; systemd drops this line')),
        (
            "\ufeffA=1",
            (
                "envfile_dropped_line",
                "line 1: the byte order mark makes the name after it invalid; systemd drops this line",
            ),
        ),
        (
            "A=1 # c",
            (
                "envfile_unquoted_comment",
                'line 1: a # begins no comment after a value, so systemd makes it a part of "A"',
            ),
        ),
        (
            "A=p@ss\\word",
            (
                "envfile_lost_backslash",
                'line 1: systemd drops a backslash of "A"; put its value in single quotes to keep it',
            ),
        ),
        ("A=${HOME}/x", ("envfile_dollar", 'line 1: systemd puts in no other variable, so "A" keeps its $ literally')),
        (
            "B=1\nA='open\nC=2",
            (
                "envfile_unbalanced_quote",
                'line 2: the quote in "A" does not end there, so the lines after it are a part of the value',
            ),
        ),
    ],
)
def test_what_somebody_meant_otherwise_is_told_with_its_line(text: str, expected: tuple[str, str]) -> None:
    assert findings(text) == [(expected[0], f"{PATH} {expected[1]}")]


def test_a_finding_says_where_it_is() -> None:
    assert parse(b"\nA=1 # c", PATH).findings[0]["object"] == "/etc/shop/env:2"


@pytest.mark.parametrize("text", ['A="1" # c', "A= # c", "A=$HOME # a $HOME # c", 'A="x" $HOME'])
def test_a_fault_is_told_wherever_it_stands_in_a_value_but_once(text: str) -> None:
    assert len(ids(text)) == len(set(ids(text))) > 0


@pytest.mark.parametrize(
    "text",
    [
        "A=#fff",
        "A='1 # c'",
        "A='p\\word $HOME'",
        'A="\\$HOME"',
        "A=\\$HOME\\ \\\\x",
        "A=p$w",
        "A=it's",
        "A='-----BEGIN KEY-----\nAb+/cd==\nABCD=\n-----END KEY-----'",
        "# export A=1 $HOME # '",
        'A="{\\"a\\": 1}"',
    ],
)
def test_what_is_as_it_seems_is_not_told(text: str) -> None:
    assert ids(text) == []


def test_a_quote_that_swallows_an_assignment_is_told_although_another_ends_it() -> None:
    assert ids("A='open\nB=2\nC='x'") == ["envfile_unbalanced_quote"]


@pytest.mark.parametrize(
    "text",
    [
        "A=-----BEGIN-----\nMIIEvQIBADANBgkqhkiG9w0B\nhunter22+/Ab==\nQ2hunter22=x\n",
        "A=hunter22 # $HOME \\d",
        "export A='hunter22\nB=2",
        'A="x" hunter22 # c',
        "my hunter22 = x\n",
        "A='\nhunter22=1",
    ],
)
def test_no_finding_holds_what_could_be_a_value(text: str) -> None:
    assert findings(text)
    assert "unter22" not in str(findings(text))
    assert "MIIE" not in str(findings(text))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


Write = Callable[[str, str], str]


def test_the_later_file_wins(write: Write) -> None:
    first, second = write("a", "A=1\nB=1\n"), write("b", "B=2\nC=2 # c\n")
    merged = read([first, second])
    assert merged.variables == {"A": "1", "B": "2", "C": "2 # c"}
    assert [found["object"] for found in merged.findings] == [f"{second}:2"]
    assert read([second, first]).variables["B"] == "1"


def test_wildcards_go_by_the_bytes_of_the_names(write: Write, tmp_path: Path) -> None:
    for name in ("b.env", "a.env", "B.env", "ä.env"):
        write(name, f"LAST={name}\n")
    write("z.txt", "LAST=z.txt")
    assert read([f"{tmp_path}/*.env"]).variables == {"LAST": "ä.env"}
    assert read([f"{tmp_path}/[abB].env"]).variables == {"LAST": "b.env"}


def test_what_is_optional_may_be_missing_or_refused(write: Write, tmp_path: Path) -> None:
    assert read([f"-{tmp_path}/none", f"-{tmp_path}/*.none", f"-{tmp_path}"]).variables == {}
    path = write("nul", "A=1\n\0")
    merged = read([f"-{path}"])
    assert merged.variables == {}
    assert [found["id"] for found in merged.findings] == ["envfile_dropped_line"]
    assert "the unit starts without it" in merged.findings[0]["message"]


@pytest.mark.parametrize("name", ["none", "*.none"])
def test_what_is_not_optional_must_be_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnvFileError) as error:
        read([f"{tmp_path}/{name}"])
    hint = '(prefix it with "-" if the unit treats it as optional)'
    assert str(error.value) == f"{tmp_path}/{name}: No such file or directory {hint}"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(EnvFileError, match=f"^{tmp_path}: Is a directory$"):
        read([str(tmp_path)])


@pytest.mark.parametrize("entry", ["shop.env", "-shop.env"])
def test_a_relative_path_is_refused(entry: str) -> None:
    with pytest.raises(EnvFileError) as error:
        read(["-/none", entry])
    text = 'environment_files[1]: "shop.env" must be an absolute path (systemd refuses relative ones)'
    assert str(error.value) == text


def test_a_file_that_only_systemd_may_read_is_not_taken_for_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(EnvFileError, match=r"^/etc/shop/env: Permission denied \(systemd reads it as root\)$"):
        read(["-/etc/shop/env"])


# --- systemd's own library --------------------------------------------------

Strings = ctypes.POINTER(ctypes.c_char_p)


def variables_of_systemd(library: Any, path: Path) -> dict[str, str] | None:
    """Call what loads the files of a unit, and what cleans them."""
    strings = Strings()
    if library.load_env_file(None, str(path).encode(), ctypes.byref(strings)) < 0:
        return None
    if not strings:
        return {}
    strings = library.strv_env_clean_with_callback(strings, None, None)
    found = {}
    for entry in strings:
        if entry is None:
            break
        name, value = entry.decode().split("=", 1)
        found[name] = value
    library.strv_free(strings)
    return found


@pytest.mark.skipif(LIBRARY is None, reason="systemd's library is not installed here")
def test_the_library_of_systemd_reads_two_thousand_files_the_same_way(tmp_path: Path) -> None:
    assert LIBRARY
    library = ctypes.CDLL(str(LIBRARY))
    library.load_env_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Strings)]
    library.strv_env_clean_with_callback.argtypes = [Strings, ctypes.c_void_p, ctypes.c_void_p]
    library.strv_env_clean_with_callback.restype = Strings
    library.strv_free.argtypes = [Strings]
    library.strv_free.restype = ctypes.c_void_p
    version = int(LIBRARY.stem.rsplit("-", 1)[1].split(".")[0])
    path = tmp_path / "env"
    for seed in range(2000):
        content = generate(seed)
        path.write_bytes(content)
        try:
            ours: dict[str, str] | None = parse(content, PATH, version).variables
        except EnvFileError:
            ours = None
        assert ours == variables_of_systemd(library, path), content
