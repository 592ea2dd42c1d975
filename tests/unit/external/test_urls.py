"""Where a call goes: what comes from data cannot lead it elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from connector.external.urls import PathRefused, check, fill, join, shown

BASE = URL("https://hlr.example/api", encoded=True)

CLIMBING = [
    "..",
    ".",
    "../../admin/all",
    "..\\admin",
    "%2e%2e",
    "%2E.",
    "a/b",
    "a%2fb",
    "a%5Cb",
    "%252e%252e%252f",
    "..;x=1",
    " .. ",
    "a\x00",
    "a\nb",
    "a\x7f",
    "%00",
    "",
    "  ",
]


@pytest.mark.parametrize("value", CLIMBING)
def test_a_value_cannot_leave_its_part_of_the_path(value: str) -> None:
    with pytest.raises(PathRefused) as refused:
        fill("/sims/{imsi}", {"imsi": value})
    assert not value.strip() or len(value) < 3 or value not in str(refused.value).replace("(..)", "")


@pytest.mark.parametrize("value", [value for value in CLIMBING if value.strip()])
def test_a_path_that_climbs_is_refused_whoever_wrote_it(value: str) -> None:
    if value == "a/b":
        check(f"/sims/{value}")
        return
    with pytest.raises(PathRefused):
        check(f"/sims/{value}")
    with pytest.raises(PathRefused):
        check(f"/sims/{value}/status")


@pytest.mark.parametrize(
    "path", ["/sims//status", "//elsewhere.example/", "/a//", "sims/1", "http://x/", "/a#b", "/a\tb"]
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(PathRefused):
        check(path)


@pytest.mark.parametrize("path", ["", "/", "/sims/", "/sims/1?x=a/../b", "/a:b@c", "?x=1", "/a%20b"])
def test_a_path_that_leads_into_the_target_is_taken(path: str) -> None:
    check(path)


@given(st.text(max_size=30))
def test_whatever_the_value_it_stays_one_part(value: str) -> None:
    try:
        path = fill("/sims/{imsi}/state", {"imsi": value})
    except (PathRefused, UnicodeEncodeError):
        return
    check(path)
    url = join(BASE, path)
    assert url.host == "hlr.example"
    assert url.raw_path.split("/")[:3] == ["", "api", "sims"]
    assert url.raw_path.split("/")[4:] == ["state"]
    assert url.parts[3] == value
    assert not url.raw_query_string


def test_a_missing_or_a_superfluous_value_is_named() -> None:
    with pytest.raises(PathRefused, match="has no value for imsi"):
        fill("/sims/{imsi}", {})
    with pytest.raises(PathRefused, match="has no place for msisdn"):
        fill("/sims/{imsi}", {"imsi": 1, "msisdn": 2})
    with pytest.raises(PathRefused, match="neither text nor a whole number"):
        fill("/sims/{imsi}", {"imsi": 1.5})  # type: ignore[dict-item]
    with pytest.raises(PathRefused, match=r"for imsi in the path /sims/\{imsi\} is missing"):
        fill("/sims/{imsi}", {"imsi": None})


@pytest.mark.parametrize(
    ("base", "path", "params", "url"),
    [
        ("https://h", "", {}, "https://h/"),
        ("https://h/a/", "", {}, "https://h/a/"),
        ("https://h/a/", "/b", {}, "https://h/a/b"),
        ("https://h/a?code=x%2By&sig=%3D", "/b?c=1", {"d": "e&f"}, "https://h/a/b?code=x%2By&sig=%3D&c=1&d=e%26f"),
        ("https://h/a?code=1", "?b=2", {}, "https://h/a?code=1&b=2"),
        ("http://[::1]:8080/a", "/\N{LATIN SMALL LETTER U WITH DIAERESIS} x", {}, "http://[::1]:8080/a/%C3%BC%20x"),
    ],
)
def test_path_and_query_are_put_behind_those_of_the_target(
    base: str, path: str, params: dict[str, str], url: str
) -> None:
    assert str(join(URL(base, encoded=True), path, params)) == url


def test_a_path_in_a_log_names_nobody() -> None:
    assert shown("/sims/001010000000007/state?token=x") == "/sims/***/state"
    assert shown("/v1/subscribers") == "/v1/subscribers"
