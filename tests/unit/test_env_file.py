"""`.env`: read right, or refused with file and line; never passed over."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.env_file import read
from connector.errors import StartError


def refused(path: Path) -> str:
    with pytest.raises(StartError) as caught:
        read(path)
    return str(caught.value)


def write(folder: Path, data: bytes) -> Path:
    path = folder / ".env"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"A=1\nB=2\n", {"A": "1", "B": "2"}),
        (b"\xef\xbb\xbfA=1\r\nB = 2\r\n", {"A": "1", "B": "2"}),
        (b"export A='x y' # comment\n\n# B=2\n", {"A": "x y"}),
        (b"A=pa${ss}word\nB='t${x}end'\nC=\"${HOME}\"\n", {"A": "pa${ss}word", "B": "t${x}end", "C": "${HOME}"}),
        (b"A=x#y\nB=x #y\n", {"A": "x#y", "B": "x"}),
        (b"A=B=c\n", {"A": "B=c"}),
        (b"A=\nA=1\n", {"A": "1"}),
        (b"KEY='-----BEGIN\nQUJD==\n-----END'\n", {"KEY": "-----BEGIN\nQUJD==\n-----END"}),
        (b"", {}),
    ],
)
def test_what_stands_in_the_file_is_read_as_it_stands(data: bytes, values: dict[str, str], tmp_path: Path) -> None:
    assert read(write(tmp_path, data)) == values


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"A=1\nB=a\0b\n", 2),
        (b"A=1\r\nB=a\0b\n", 2),
        ("A=1\n".encode("utf-16"), 1),
        ("A=1\n".encode("utf-16-le"), 1),
        (b"A=1\n\nB=caf\xe9\n", 3),
        (b"A=1\n'B=C'=d\n", 2),
        (b"A=1\nwithout a sign\n", 2),
        (b"A=1\nNAME\n", 2),
        (b"A=1\n\nB='open\n", 3),
        (b"A='open\nB=1\nC='x'\n", 1),
        (b'A="open\nB=1\nC="\n', 1),
        (b"A='closed' rest\n", 1),
        (b"A=1\n=2\n", 2),
        (b"A=1\nB=2\nA=3\n", 3),
        (b"\xe2\x80\x8bA=1\n", 1),
        (b"1A=1\n", 1),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(data: bytes, line: int, tmp_path: Path) -> None:
    path = write(tmp_path, data)
    assert f"{path}, line {line}: " in refused(path)


def test_what_is_no_file_is_refused_and_nothing_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert read(path) == {}
    path.mkdir()
    assert "folder" in refused(path)
    path.rmdir()
    path.symlink_to("nowhere")
    assert "nowhere" in refused(path)
    path.unlink()
    os.mkfifo(path)
    assert "pipe" in refused(path)
    path.unlink()
    write(tmp_path, b"A=" + b"x" * 2**20)
    assert "bytes" in refused(path)


lines = st.lists(
    st.sampled_from(
        ["A=1", "B='x'", 'C="y', "D", "export E=5", "'F=G'=1", "A=2", "# c", "", "H=a\0", "I='", "=", "J=${x}"]
    )
    | st.text(max_size=12),
    max_size=6,
)


@settings(deadline=None, max_examples=300)
@given(lines, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
def test_whatever_comes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], newline: str, encoding: str
) -> None:
    data = newline.join(parts).encode(encoding, "ignore")
    path = write(tmp_path_factory.mktemp("env"), data)
    try:
        values = read(path)
    except StartError as error:
        lines_said = str(error).splitlines()
    else:
        lines_said = []
    assert all(line.startswith(str(path)) for line in lines_said)
    if lines_said:
        return
    for part in parts:  # an ordinary line that was not refused is there
        if part in ("A=1", "B='x'", "export E=5", "J=${x}") and encoding != "utf-16":
            assert part.split("=")[0].removeprefix("export ") in values


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(st.characters(codec="utf-8"))))
def test_any_quoted_value_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    values = {name: text.replace("\0", "") for name, text in values.items()}
    escaped = {name: text.replace("\\", "\\\\").replace("'", "\\'") for name, text in values.items()}
    path = write(
        tmp_path_factory.mktemp("env"), "".join(f"{name}='{text}'\n" for name, text in escaped.items()).encode()
    )
    try:
        found = read(path)
    except StartError as error:  # a value whose lines look like settings
        found = values if "not closed in its line" in str(error) else {}
    assert found == values
