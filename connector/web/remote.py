"""Whose request it is: the address of the client, also behind proxies that are trusted to tell it."""

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web

Network = IPv4Network | IPv6Network

_FORWARDED_FOR: Final = "X-Forwarded-For"


class RemoteAddress:
    """The address that a request comes from.

    ``proxies``  networks whose hosts are believed what they say in ``X-Forwarded-For``. Each proxy appends the address
                 that it was asked from, so the list is read from its end, as far as trusted proxies wrote it.
    """

    def __init__(self, proxies: Collection[Network] = ()) -> None:
        self._proxies = tuple(proxies)

    def __call__(self, request: web.BaseRequest) -> str:
        """The address as a text; empty where it is not known."""
        address = plain(request.remote or "")
        if not self._proxies or not self.trusts(address):
            return address
        heard = ",".join(request.headers.getall(_FORWARDED_FOR, []))
        for hop in reversed(heard.split(",")):
            said = plain(hop.strip())
            if not _is_address(said):
                break
            address = said
            if not self.trusts(address):
                break
        return address

    def trusts(self, address: str) -> bool:
        """Whether this is one of the proxies."""
        return _is_address(address) and any(ip_address(address) in network for network in self._proxies)


def plain(address: str) -> str:
    """An IPv4 address that came over an IPv6 socket, in its usual form; any other as it is."""
    if not address.startswith("::ffff:"):
        return address
    mapped = IPv6Address(address).ipv4_mapped if _is_address(address) else None
    return address if mapped is None else str(mapped)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
