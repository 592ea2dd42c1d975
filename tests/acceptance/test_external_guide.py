"""docs/external.md followed to the letter: each recipe is run, with stand-ins, and passes the type checker."""

import asyncio
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from connector.external import using
from connector.external.stand_in import StandIn, reply
from connector.outcome import Outcome
from connector.testing import example, run
from tests.process import ROOT

GUIDE = (ROOT / "docs" / "external.md").read_text()
BLOCKS = {name: text for text, name in re.findall(r"^```python\n(# (\S+)\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)}
README = re.search(
    r"^```python\n(# my_connector\.py\n.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


pytestmark = pytest.mark.usefixtures("own_hooks")


def module(name: str, folder: Path) -> ModuleType:
    """The recipe of this file name, imported."""
    file = folder / name
    file.write_text(BLOCKS[name])
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = found  # handlers ask for the module that they are of
    spec.loader.exec_module(found)
    return found


def ended(function: Any, event_type: str) -> Outcome:
    return asyncio.run(run(function, example(event_type)))


def test_every_block_of_python_names_its_file() -> None:
    assert len(BLOCKS) == GUIDE.count("```python") == 7


def test_subscribers(tmp_path: Path) -> None:
    there = StandIn()
    with using(there):
        assert ended(module("my_subscribers.py", tmp_path).provision, "SIM/Updated").state == "done"
    assert [call.path for call in there.calls] == ["/subscribers/001010000000001"]


def test_upsert(tmp_path: Path) -> None:
    upsert = module("my_upsert.py", tmp_path).upsert
    there = StandIn(404, 201, 200)
    with using(there):
        assert ended(upsert, "Account/Updated").reason == "created"
        assert ended(upsert, "Account/Updated").reason == "updated"
    assert [call.method for call in there.calls] == ["PATCH", "PUT", "PATCH"]


def test_conflict(tmp_path: Path) -> None:
    create = module("my_conflict.py", tmp_path).create
    with using(StandIn(reply(409, json={"id": 7}), 200)):
        assert ended(create, "Account/Created").reason == "updated 7"
    with using(StandIn(reply(201, json={"id": 8}))):
        assert ended(create, "Account/Created").reason == "created 8"
    with using(StandIn(422)):
        assert ended(create, "Account/Created").state == "dead"


def test_error_inside(tmp_path: Path) -> None:
    provision = module("my_errors.py", tmp_path).provision
    answers = [reply(json={"error": "maintenance"}), reply(json={"error": "no tariff"}), reply(json={"id": 9})]
    with using(StandIn(*answers)):
        states = [ended(provision, "SIM/Updated") for _ in range(3)]
    assert [outcome.state for outcome in states] == ["waiting", "dead", "done"]
    assert states[2].reason == "provisioned as 9"


def test_soap(tmp_path: Path) -> None:
    swap = module("my_soap.py", tmp_path).swap
    fault = (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><e:Fault>'
        "<faultcode>e:Client</faultcode></e:Fault></e:Body></e:Envelope>"
    )
    there = StandIn(reply(text="<ok/>"), reply(text=fault))
    with using(there):
        assert ended(swap, "SIM/Replaced").reason == "swapped"
        assert "the PCRF refused: e:Client" in ended(swap, "SIM/Replaced").reason
    assert b"<swap>" in there.calls[0].body
    assert there.calls[0].headers["Content-Type"] == "text/xml"


def test_two_systems(tmp_path: Path) -> None:
    two = module("my_two_systems.py", tmp_path)
    hlr, crm = StandIn(name="hlr", TARGET_AUTH="bearer", TARGET_TOKEN="of-hlr"), StandIn(503, name="crm")
    with using(hlr=hlr, crm=crm):
        assert ended(two.tell_hlr, "SIM/Updated").state == "done"
        assert ended(two.tell_crm, "SIM/Updated").state == "waiting"
    assert hlr.calls[0].headers["Authorization"] == "Bearer of-hlr"
    assert "Authorization" not in crm.calls[0].headers


def test_the_test_of_the_guide_passes(tmp_path: Path) -> None:
    assert README is not None
    (tmp_path / "my_connector.py").write_text(README[1])
    (tmp_path / "test_my_connector.py").write_text(BLOCKS["test_my_connector.py"])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
