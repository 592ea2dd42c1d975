"""Policies in a PCRF that speaks SOAP and answers 200 with its error inside: ``PCRF_URL``."""

from xml.etree.ElementTree import Element, SubElement

from connector import Event, on
from connector.external import TargetResponse, Verdict, on_response, target

SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
PCRF = "{urn:example:pcrf}"
OK, OVERLOADED = "0", "5001"


@on_response("pcrf")
def error_inside(response: TargetResponse) -> Verdict | None:
    """What the result code means: an overload says that the PCRF as a whole takes nothing now."""
    answer = response.xml()
    code = answer.findtext(f".//{PCRF}resultCode")
    if code == OK:
        return None
    reason = answer.findtext(f".//{PCRF}resultText") or f"result code {code}"
    overloaded = code == OVERLOADED
    return Verdict("retry" if overloaded or code is None else "dead", reason, counts=overloaded)


@on("SIM/Updated", "SIM/Replaced", name="pcrf.policy", latest_only=True, skip_unless=["pb_data.sim_info.imsi"])
async def policy(event: Event) -> str:
    """Set the policy that the card's account has now."""
    envelope = Element(f"{SOAP}Envelope")
    request = SubElement(SubElement(envelope, f"{SOAP}Body"), f"{PCRF}setPolicy")
    SubElement(request, f"{PCRF}imsi").text = event.pb_data.sim_info.imsi
    SubElement(request, f"{PCRF}policy").text = event.pb_data.access_policy_info.name or "default"
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"setPolicy"'}
    await target("pcrf").post(xml=envelope, headers=headers, event=event)
    return "Policy set"
