"""Contacts in a CRM, which takes OAuth 2: ``CRM_URL``, ``CRM_AUTH=oauth2``, ``CRM_TOKEN_URL``, ``CRM_CLIENT_ID``."""

from connector import Event, on
from connector.external import target


@on(
    "Account/New", "Account/Blocked", "Account/Unblocked", "Account/Product/Changed", "Account/Status/Changed",
    name="crm.contact", latest_only=True, skip_unless=["pb_data.account_info.i_account"],
)  # fmt: skip
async def contact(event: Event) -> str:
    """Update the contact, or create it where there is none (404), or update the one that was in its way (409)."""
    crm, account = target("crm"), event.pb_data.account_info
    key = f"porta-{account.i_account}"
    record = {"product": account.product_name, "in_service": account.in_service}
    found = await crm.patch("/contacts/{key}", {"key": key}, json=record, event=event, outcomes={404: "done"})
    if found.status != 404:
        return "Updated"
    made = await crm.post("/contacts", json=record | {"key": key}, event=event, step="create", outcomes={409: "done"})
    if made.status != 409:
        return "Created"
    its = made.json()["id"]
    await crm.patch("/contacts/{id}", {"id": its}, json=record | {"key": key}, event=event, step="adopt")
    return f"Updated contact {its}, which was there without our key"
