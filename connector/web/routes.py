"""The routes: one resource a path, whatever the method, so that every answer is one of ours (404, 405, 417 too).

Middlewares are aiohttp's, but are put around a route's handler once, at start. An application that holds them itself
builds the chain anew for each request, at a tenth of the price of an event.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler, Middleware

from connector.web.bearer import BearerAuth
from connector.web.refusals import shown
from connector.web.responses import ExpectationFailed, MethodNotAllowed, NotFound


class Page(NamedTuple):
    """What is served at a path, with and without a slash at its end.

    ``methods``  handler by method; GET answers HEAD and OPTIONS too
    ``auth``     what a request for one of them must pass before its body is looked at
    """

    methods: Mapping[str, Handler]
    auth: BearerAuth | None = None


def both_forms(path: str) -> frozenset[str]:
    """A path with and without a slash at its end: the slash is an easy mistake in a URL that is typed once."""
    return frozenset({path, path.rstrip("/") + "/", path.rstrip("/") or "/"})


def add_routes(
    app: web.Application, pages: Mapping[str, Page], outer: Sequence[Middleware], not_found: Handler
) -> None:
    """Serve ``pages`` by path, and ``not_found`` elsewhere. ``outer`` middlewares are around every answer."""
    expectation_failed = _around(_expectation_failed, outer)
    for path, page in pages.items():
        expect = _expect(page.auth, expectation_failed)
        methods = dict(page.methods)
        if hdrs.METH_GET in methods:
            methods[hdrs.METH_HEAD] = methods[hdrs.METH_GET]
            methods[hdrs.METH_OPTIONS] = _options(", ".join(sorted([*methods, hdrs.METH_OPTIONS])))
        refuse = _refuse_method(", ".join(sorted(methods)))
        for form in both_forms(path):
            resource = app.router.add_resource(form)
            for method, handler in methods.items():
                checked = handler if page.auth is None else _checked(page.auth, handler)
                resource.add_route(method, _around(checked, outer), expect_handler=expect)
            resource.add_route(hdrs.METH_ANY, _around(refuse, outer), expect_handler=expect)
    rest = _Rest("/{rest:.*}")
    rest.add_route(hdrs.METH_ANY, _around(not_found, outer), expect_handler=_expect(None, expectation_failed))
    app.router.register_resource(rest)


def not_found(event_path: str, auth: BearerAuth) -> Handler:
    """The handler of every path that has no page. Who has a token is told where events go."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if auth.knows(request):
            raise NotFound(f"Not found: {shown(request.path)}; events are posted to {event_path}")
        raise NotFound

    return handle


class _Rest(web.DynamicResource):
    """Every target that has no page, also one that is no path (``OPTIONS *``)."""

    def _match(self, path: str) -> dict[str, str]:
        return {}


def _around(handler: Handler, middlewares: Sequence[Middleware]) -> Handler:
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    return handler


def _checked(auth: BearerAuth, handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        await auth.check(request)
        return await handler(request)

    return checked


def _options(allow: str) -> Handler:
    async def options(_: web.Request) -> web.StreamResponse:
        """What HAProxy asks by default to see whether a server is there (RFC 9110, 9.3.7)."""
        return web.Response(headers={hdrs.ALLOW: allow})

    return options


def _refuse_method(allow: str) -> Handler:
    async def method_not_allowed(_: web.Request) -> web.StreamResponse:
        raise MethodNotAllowed(allow)

    return method_not_allowed


async def _expectation_failed(_: web.Request) -> web.StreamResponse:
    raise ExpectationFailed


def _expect(auth: BearerAuth | None, failed: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    async def expect(request: web.Request) -> web.StreamResponse | None:
        """Ask for the body (RFC 9110, 10.1.1), unless the request is going to be refused for its headers."""
        if request.version < HttpVersion11:
            return None
        if request.headers.get(hdrs.EXPECT, "").lower() != "100-continue":
            return await failed(request)
        refused = auth is not None and not auth.knows(request)
        if refused or (request.content_length or 0) > request.client_max_size:
            return None  # the handler says why
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer proper has not begun
        return None

    return expect
