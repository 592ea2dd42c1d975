import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from connector.web.bearer import BearerAuth, Guesses
from connector.web.remote import RemoteAddress
from connector.web.responses import Unauthorized, error_response

AUTH = BearerAuth(["new-token", "old-token"], RemoteAddress(), Guesses(lambda: 0.0))


def check(auth: BearerAuth, *values: str) -> None:
    headers = CIMultiDict([("Authorization", value) for value in values])
    if not auth.knows(make_mocked_request("POST", "/", headers=headers)):
        raise Unauthorized


@pytest.mark.parametrize(
    "value",
    [
        "Bearer new-token",
        "Bearer old-token",
        "bearer new-token",
        "BEARER old-token",
        "Bearer  new-token",
        "bEaReR new-token ",
    ],
)
def test_every_good_token_is_let_through_whatever_the_case_of_its_scheme(value: str) -> None:
    check(AUTH, value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "new-token",
        "Basic new-token",
        "Bearer New-Token",
        "Bearer new-toke",
        "Bearer new-token-",
        "Bearer new-token,old-token",
        "Bearer new-token old-token",
        "Bearernew-token",
        "Bearer Bearer new-token",
        "Bearer ü",
        "Bearer " + "x" * 5000,
    ],
    ids=repr,
)
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(Unauthorized):
        check(AUTH, value)


def test_a_missing_header_is_refused() -> None:
    with pytest.raises(Unauthorized):
        check(AUTH)


def test_no_token_is_good_where_none_is_set() -> None:
    for value in ("Bearer ", "Bearer", "Bearer None", ""):
        with pytest.raises(Unauthorized):
            check(BearerAuth([], RemoteAddress(), Guesses(lambda: 0.0)), value)


def test_a_refusal_says_how_to_authenticate_and_not_what_came() -> None:
    with pytest.raises(Unauthorized) as caught:
        check(AUTH, "Bearer secret-guess")
    assert error_response(caught.value).headers["WWW-Authenticate"] == "Bearer"
    assert "secret-guess" not in str(caught.value)
