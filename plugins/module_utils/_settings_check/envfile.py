# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What systemd makes of EnvironmentFile=, which is neither what a shell nor what dotenv makes of it.

Held against systemd itself by molecule/settings_check, and against its library by the unit tests where it is installed.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .inspector.registry import Finding, finding

SYSTEMD = 257
# The first one that ends a comment at the end of its line, whatever its last character is.
COMMENTS_END_WITH_LINE = 254

# A file is scanned as Latin-1, where each byte is a character: all that has a meaning is ASCII, and what systemd takes
# for UTF-8 is only known when quotes and backslashes are gone.
_VALID_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BETWEEN = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"[#;][^\r\n]*")
_CONTINUED_COMMENT = re.compile(r"[#;](?:\\.?|[^\\\r\n])*", re.DOTALL)
_NAME = re.compile(r".[^=\r\n]*", re.DOTALL)
_BLANKS = re.compile(r"[ \t]*")
_SINGLE_QUOTED = re.compile(r"'([^']*)('?)")
_DOUBLE_QUOTED = re.compile(r'"((?:\\.?|[^"\\])*)("?)', re.DOTALL)
_UNQUOTED = re.compile(r"(?:\\.?|[^\\\r\n])*", re.DOTALL)
# The last character of a file can be a backslash.
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)

_SHELL_COMMENT = re.compile(r"(?<=[ \t])#")
_SHELL_VARIABLE = re.compile(r"\$(?:\{[A-Za-z_]\w*\}|[A-Z_][A-Z0-9_]+)")
_SWALLOWED_ASSIGNMENT = re.compile(r"\n[ \t]*(?:export[ \t]+)?[A-Z_][A-Z0-9_]*=[^=\r\n]")
# What follows a line with a fault may be a part of a secret: it is only called a name if it looks like nothing else.
_LOOKS_LIKE_A_NAME = re.compile(r"(?:export[ \t]+|set[ \t]+)?(?:[A-Z0-9_.-]{1,64}|[a-z0-9_.-]{1,64})")


class EnvFileError(ValueError):
    """systemd would not start the unit."""


class Parsed(NamedTuple):
    """What a unit gets, and what its author may have meant otherwise. No finding holds a value."""

    variables: dict[str, str]
    findings: list[Finding]


class _Piece(NamedTuple):
    """A part of a value, and whether it ends the value."""

    value: str
    end: int
    is_last: bool


def parse(text: bytes, path: str, version: int = SYSTEMD) -> Parsed:
    """Read a file as this version of systemd does; `path` is for the messages."""
    if b"\0" in text:
        raise _refused(path, text[: text.index(b"\0")].count(b"\n") + 1, "a NUL byte")
    return _Scanner(text.decode("latin-1"), path, version).scan()


def read(files: Sequence[str], version: int = SYSTEMD) -> Parsed:
    """Merge the files of a unit as it names them: absolute, with an optional "-" before them, and with wildcards."""
    merged = Parsed({}, [])
    for index, entry in enumerate(files):
        optional = entry.startswith("-")
        pattern = entry[1:] if optional else entry
        if not pattern.startswith("/"):
            raise EnvFileError(
                f'environment_files[{index}]: "{pattern}" must be an absolute path (systemd refuses relative ones)'
            )
        for path in _matching(pattern):
            parsed = _load(path, version, optional)
            merged.variables.update(parsed.variables)
            merged.findings.extend(parsed.findings)
    return merged


def _matching(pattern: str) -> list[str]:
    """Without a match, it is the pattern itself that is missing."""
    found = glob.glob(pattern) if glob.has_magic(pattern) else []  # noqa: PTH207  pathlib drops what "//" and "." say
    return sorted(found, key=os.fsencode) or [pattern]


def _load(path: str, version: int, optional: bool) -> Parsed:
    try:
        return parse(Path(path).read_bytes(), path, version)
    except PermissionError as error:
        # For process 1 there is no such thing, so the unit gets what we do not see.
        raise EnvFileError(f"{path}: {error.strerror} (systemd reads it as root)") from error
    except OSError as error:
        if optional:
            return Parsed({}, [])
        hint = ' (prefix it with "-" if the unit treats it as optional)' if isinstance(error, FileNotFoundError) else ""
        raise EnvFileError(f"{path}: {error.strerror}{hint}") from error
    except EnvFileError as error:
        if not optional:
            raise
        message = f'{error}, and because of the "-" the unit starts without it'
        return Parsed({}, [finding("envfile_dropped_line", message=message, subject=path)])


def _refused(path: str, line: int, reason: str) -> EnvFileError:
    return EnvFileError(f"{path}: {reason} on line {line}; systemd refuses the whole file")


class _Scanner:
    """Goes through a file once, from assignment to assignment."""

    def __init__(self, text: str, path: str, version: int) -> None:
        self.text = text
        self.path = path
        self.comment = _COMMENT if version >= COMMENTS_END_WITH_LINE else _CONTINUED_COMMENT
        self.variables: dict[str, str] = {}
        self.findings: list[Finding] = []

    def scan(self) -> Parsed:
        position = self._end(_BETWEEN, 0)
        while position < len(self.text):
            is_comment = self.text[position] in "#;"
            position = self._end(self.comment, position) if is_comment else self._line(position)
            position = self._end(_BETWEEN, position)
        return Parsed(self.variables, self.findings)

    def _end(self, pattern: re.Pattern[str], position: int) -> int:
        match = pattern.match(self.text, position)
        return match.end() if match else position

    def _line(self, start: int) -> int:
        """Take what begins here, which ends on a later line if a quote or a backslash says so."""
        end = self._end(_NAME, start)
        name = self.text[start:end].rstrip(" \t")
        if not self.text.startswith("=", end):
            self._tell("envfile_dropped_line", start, 'there is no "=" on it; systemd drops this line')
            return end
        told_before = len(self.findings)
        value, end = self._value(name, end + 1)
        decoded_name, decoded = (self._utf8(part, start, end) for part in (name, value))
        if _VALID_NAME.fullmatch(name):
            self.variables[name] = decoded
        else:
            # Of a value that nobody gets, it matters at most where it ends.
            faults = self.findings[told_before:]
            self.findings[told_before:] = [fault for fault in faults if fault["id"] == "envfile_unbalanced_quote"]
            self._tell_dropped(decoded_name, start)
        return end

    def _value(self, name: str, position: int) -> tuple[str, int]:
        value = ""
        is_last = False
        while not is_last:
            position = self._end(_BLANKS, position)
            piece = self._piece(name, position)
            value += piece.value
            position, is_last = piece.end, piece.is_last
        return value, position

    def _piece(self, name: str, start: int) -> _Piece:
        quoted = _SINGLE_QUOTED.match(self.text, start) or _DOUBLE_QUOTED.match(self.text, start)
        if not quoted:
            end = self._end(_UNQUOTED, start)
            self._tell_once(self._faults_of_unquoted(name, start, end))
            return _Piece(_unquoted(self.text[start:end]), end, is_last=True)
        content, closing = quoted.groups()
        if not closing or _SWALLOWED_ASSIGNMENT.search(content):
            self._tell(
                "envfile_unbalanced_quote",
                start,
                f"the quote in {_shown(name)} does not end there, so the lines after it are a part of the value",
            )
        if quoted.re is _SINGLE_QUOTED:
            return _Piece(content, quoted.end(), is_last=not closing)
        self._tell_once(self._variables_in(name, start, quoted.end()))
        return _Piece(_ESCAPE.sub(_double_quoted_escape, content), quoted.end(), is_last=not closing)

    # --- what it tells ------------------------------------------------------

    def _faults_of_unquoted(self, name: str, start: int, end: int) -> Iterator[tuple[str, int, str]]:
        comment = _SHELL_COMMENT.search(self.text, start, end)
        if comment:
            message = f"a # begins no comment after a value, so systemd makes it a part of {_shown(name)}"
            yield "envfile_unquoted_comment", comment.start(), message
        for escape in _ESCAPE.finditer(self.text, start, end):
            if escape[1].isalnum():
                message = f"systemd drops a backslash of {_shown(name)}; put its value in single quotes to keep it"
                yield "envfile_lost_backslash", escape.start(), message
        yield from self._variables_in(name, start, end)

    def _variables_in(self, name: str, start: int, end: int) -> Iterator[tuple[str, int, str]]:
        unescaped = _ESCAPE.sub(lambda escape: " " * len(escape[0]), self.text[start:end])
        variable = _SHELL_VARIABLE.search(unescaped)
        if variable:
            message = f"systemd puts in no other variable, so {_shown(name)} keeps its $ literally"
            yield "envfile_dollar", start + variable.start(), message

    def _tell_once(self, faults: Iterator[tuple[str, int, str]]) -> None:
        """One finding of a kind is enough for a variable, however often it has the fault."""
        told = set()
        for identity, position, message in faults:
            if identity not in told:
                self._tell(identity, position, message)
            told.add(identity)

    def _tell_dropped(self, name: str, position: int) -> None:
        is_export = re.match(r"export[ \t]", name)
        fault = f"{_shown(name)} is not a valid variable name"
        if name.startswith("\ufeff"):
            fault = "the byte order mark makes the name after it invalid"
        self._tell(
            "envfile_export" if is_export else "envfile_dropped_line", position, f"{fault}; systemd drops this line"
        )

    def _tell(self, identity: str, position: int, message: str) -> None:
        line = self._line_number(position)
        self.findings.append(
            finding(identity, message=f"{self.path} line {line}: {message}", subject=f"{self.path}:{line}")
        )

    def _line_number(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1

    def _utf8(self, part: str, start: int, end: int) -> str:
        """Decode a name or a value, of which one that is no UTF-8 spoils the whole file."""
        try:
            decoded = part.encode("latin-1").decode()
        except UnicodeDecodeError:
            decoded = "\ufffe"
        if not any(map(_is_noncharacter, decoded)):
            return decoded
        try:
            self.text[start:end].encode("latin-1").decode()
        except UnicodeDecodeError as error:
            start += error.start
        raise _refused(self.path, self._line_number(start), "invalid UTF-8")


def _unquoted(raw: str) -> str:
    """Blanks at the end go, unless a backslash stands before or behind them."""
    kept = max((escape.end() for escape in _ESCAPE.finditer(raw)), default=0)
    return _ESCAPE.sub(lambda escape: escape[1].strip("\r\n"), raw[:kept]) + raw[kept:].rstrip(" \t")


def _double_quoted_escape(escape: re.Match[str]) -> str:
    if escape[1] in ("\n", ""):
        return ""
    return escape[1] if escape[1] in '"\\`$' else escape[0]


def _is_noncharacter(character: str) -> bool:
    """Unicode reserves them, and systemd takes them for invalid where Python does not."""
    code = ord(character)
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE  # noqa: PLR2004


def _shown(name: str) -> str:
    return f'"{name}"' if _LOOKS_LIKE_A_NAME.fullmatch(name) else "what stands before the ="
