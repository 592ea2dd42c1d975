"""The ceiling: aiohttp on uvloop that reads the body, keeps nothing and answers as the connector does."""

import os

import uvloop
from aiohttp import web

BODY = b'{"message":"Event accepted for processing"}'


async def accept(request: web.Request) -> web.Response:
    """202 to whatever came."""
    await request.read()
    return web.Response(status=202, body=BODY, content_type="application/json")


def main() -> None:
    """Serve on 127.0.0.1:PORT until SIGTERM."""
    app = web.Application(client_max_size=2 * 1024**2)
    app.router.add_post("/process-event", accept)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
