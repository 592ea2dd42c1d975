"""The routes: one resource a path, whatever the method, so that every answer is one of ours (404, 405, 417 too).

Middlewares are aiohttp's, but are put around a route's handler once, at start. An application that holds them itself
builds the chain anew for each request, at a tenth of the price of an event.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler, Middleware

from connector.errors import ConnectorError
from connector.web.responses import ExpectationFailed, MethodNotAllowed, NotFound

Check = Callable[[web.BaseRequest], None]


class Page(NamedTuple):
    """What is served at a path.

    ``methods``  handler by method; GET answers HEAD too
    ``check``    what a request for one of them must pass before its body is looked at; raises ConnectorError
    """

    methods: Mapping[str, Handler]
    check: Check | None = None


def add_routes(app: web.Application, pages: Mapping[str, Page], outer: Sequence[Middleware]) -> None:
    """Serve ``pages`` by path; everything else is not found. ``outer`` middlewares are around every answer."""
    expectation_failed = _around(_expectation_failed, outer)
    for path, page in pages.items():
        resource = app.router.add_resource(path)
        expect = _expect(page.check, expectation_failed)
        methods = dict(page.methods)
        if hdrs.METH_GET in methods:
            methods.setdefault(hdrs.METH_HEAD, methods[hdrs.METH_GET])
        for method, handler in methods.items():
            checked = handler if page.check is None else _checked(page.check, handler)
            resource.add_route(method, _around(checked, outer), expect_handler=expect)
        refuse = _refuse_method(", ".join(sorted(methods)))
        resource.add_route(hdrs.METH_ANY, _around(refuse, outer), expect_handler=expect)
    rest = _Rest("/{rest:.*}")
    rest.add_route(hdrs.METH_ANY, _around(_not_found, outer), expect_handler=_expect(None, expectation_failed))
    app.router.register_resource(rest)


class _Rest(web.DynamicResource):
    """Every target that has no page, also one that is no path (``OPTIONS *``)."""

    def _match(self, path: str) -> dict[str, str]:
        return {}


def _around(handler: Handler, middlewares: Sequence[Middleware]) -> Handler:
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    return handler


def _checked(check: Check, handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        check(request)
        return await handler(request)

    return checked


def _refuse_method(allow: str) -> Handler:
    async def method_not_allowed(_: web.Request) -> web.StreamResponse:
        raise MethodNotAllowed(allow)

    return method_not_allowed


async def _not_found(_: web.Request) -> web.StreamResponse:
    raise NotFound


async def _expectation_failed(_: web.Request) -> web.StreamResponse:
    raise ExpectationFailed


def _expect(check: Check | None, failed: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    async def expect(request: web.Request) -> web.StreamResponse | None:
        """Ask for the body (RFC 9110, 10.1.1), unless the request is going to be refused for its headers."""
        if request.version < HttpVersion11:
            return None
        if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
            return await failed(request)
        try:
            if check is not None:
                check(request)
        except ConnectorError:
            return None  # the middlewares answer
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer proper has not begun
        return None

    return expect
