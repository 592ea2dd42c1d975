"""Settings of the target: each contradiction is told before the first event, and no secret is shown."""

from pathlib import Path

import pytest

from connector import external
from connector.errors import StartError
from connector.settings import Settings
from tests.unit.external.events import URL, settings


def faults(**environment: str) -> list[str]:
    with pytest.raises(StartError) as fault:
        Settings.load(environment)
    return str(fault.value).splitlines()


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({"TARGET_AUTH": "basic"}, "TARGET_USER, TARGET_AUTH: TARGET_AUTH=basic needs it"),
        ({"TARGET_AUTH": "bearer"}, "TARGET_TOKEN, TARGET_AUTH: TARGET_AUTH=bearer needs it"),
        ({"TARGET_TOKEN": "x"}, "TARGET_TOKEN, TARGET_AUTH: it is set, but TARGET_AUTH=none makes no use of it"),
        ({"TARGET_TIMEOUT": "60s"}, "TARGET_TIMEOUT, HANDLER_TIMEOUT: a call must end before its handler is cut off"),
        ({"TARGET_KEY_FILE": "key.pem"}, "TARGET_CERT_FILE, TARGET_KEY_FILE: a key needs its certificate"),
    ],
)
def test_settings_that_contradict_each_other_stop_the_start(environment: dict[str, str], fault: str) -> None:
    assert faults(TARGET_URL=URL, **environment) == [fault]


def test_oauth2_names_all_that_it_lacks() -> None:
    assert faults(TARGET_URL=URL, TARGET_AUTH="oauth2") == [
        "TARGET_TOKEN_URL, TARGET_AUTH: TARGET_AUTH=oauth2 needs it",
        "TARGET_CLIENT_ID, TARGET_AUTH: TARGET_AUTH=oauth2 needs it",
        "TARGET_CLIENT_SECRET, TARGET_REFRESH_TOKEN: TARGET_AUTH=oauth2 needs one of them",
    ]


def test_contradictions_are_told_with_the_other_faults_but_none_that_follows_from_one() -> None:
    found = faults(TARGET_URL=URL, PORT="x", TARGET_TIMEOUT="soon", TARGET_AUTH="bearer")
    assert [line.partition(":")[0] for line in found] == ["PORT", "TARGET_TIMEOUT", "TARGET_TOKEN, TARGET_AUTH"]


def test_the_forwarder_needs_somewhere_to_post_to() -> None:
    (fault,) = faults(HANDLERS="connector.handlers.forward")
    assert fault.startswith("TARGET_URL, HANDLERS: ")


@pytest.mark.parametrize(
    "url",
    [
        "hlr.example",
        "ftp://hlr",
        "http://",
        "http://u:p@hlr",
        "http://hlr#x",
        "http://hlr:port",
        "http://h lr",
        "/prov",
    ],
)
def test_a_target_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    (fault,) = faults(TARGET_URL=url)
    assert fault.startswith("TARGET_URL: a URL ")
    assert "u:p" not in fault


@pytest.mark.parametrize(
    "host", ["a..b", "-a.example", "a-.example", "a" * 64 + ".example", ".example", "a b", "ex!ample", "x." * 130 + "x"]
)
def test_a_host_name_that_cannot_be_one_stops_the_start(host: str) -> None:
    (fault,) = faults(TARGET_URL=f"http://{host}/api")
    assert fault.startswith("TARGET_URL: ")


@pytest.mark.parametrize("host", ["hlr", "hlr.example.", "10.0.0.1", "[::1]", "a_b.example", "xn--bcher-kva.example"])
def test_a_host_name_that_can_be_one_is_taken(host: str) -> None:
    assert settings(TARGET_URL=f"https://{host}:8443/api?code=a%2Bb&sig=c").target_url.endswith("sig=c")


def test_each_of_several_targets_has_settings_of_its_own() -> None:
    loaded = Settings.load(
        {
            "TARGETS": "hlr,crm",
            "HLR_URL": URL,
            "HLR_AUTH": "bearer",
            "HLR_TOKEN": "of-hlr",
            "CRM_URL": "https://crm.example",
            "CRM_BREAKER_FAILURES": "3",
            "BREAKER_FAILURES": "7",
            "WORKERS": "5",
        }
    )
    hlr, crm = loaded.of_targets["hlr"], loaded.of_targets["crm"]
    assert list(loaded.of_targets) == ["hlr", "crm"]
    assert (hlr.target_token, hlr.breaker_failures, hlr.workers) == ("of-hlr", 7, 5)
    assert (crm.target_token, crm.target_auth, crm.breaker_failures) == ("", "none", 3)


def test_errors_in_the_settings_of_several_targets_are_told_together_under_their_own_names() -> None:
    found = faults(TARGETS="hlr,crm,sms", HLR_URL="nowhere", CRM_URL=URL, CRM_AUTH="bearer", PORT="x")
    assert [fault.partition(": ")[0] for fault in found] == ["PORT", "HLR_URL", "CRM_TOKEN, CRM_AUTH", "SMS_URL"]
    assert not any("TARGET_" in fault for fault in found)


@pytest.mark.parametrize("names", ["hlr,hlr", "target", "1a", "a-b", "journal"])
def test_a_name_that_no_target_can_have_is_refused(names: str) -> None:
    assert any(fault.startswith("TARGETS: ") for fault in faults(TARGETS=names, A_URL=URL))


@pytest.mark.parametrize("text", ["404", "404=gone", "999=done", "abc=done", "404 done"])
def test_a_status_table_that_cannot_be_read_is_refused(text: str) -> None:
    (fault,) = faults(TARGET_URL=URL, TARGET_STATUS=text)
    assert fault.startswith("TARGET_STATUS: entries such as ")


def test_a_status_table_is_read() -> None:
    assert settings(TARGET_STATUS="404=done, 409 = retry").target_status == {404: "done", 409: "retry"}


def test_secrets_are_not_shown_with_the_settings() -> None:
    secrets = {
        name: f"hidden-{name}"
        for name in ("TARGET_PASSWORD", "TARGET_TOKEN", "TARGET_CLIENT_SECRET", "TARGET_REFRESH_TOKEN")
    }
    shown = repr(settings(TARGET_AUTH="bearer", **secrets))
    assert "hidden" not in shown
    assert "target_user" in shown


@pytest.mark.parametrize("name", ["TARGET_CA_FILE", "TARGET_CERT_FILE"])
def test_a_certificate_that_cannot_be_read_stops_the_start(tmp_path: Path, name: str) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    for file in (rubbish, tmp_path / "none.pem"):
        with pytest.raises(StartError, match=name):
            external.Targets(settings(**{name: str(file)}))


def test_a_mapping_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text("imsi = { path = 5 }")
    for name in (file, tmp_path / "none.toml"):
        with pytest.raises(StartError, match="FORWARD_MAPPING"):
            external.Targets(settings(FORWARD_MAPPING=str(name)))
