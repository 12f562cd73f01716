"""The peer: uWebSockets (by socketify) as a relay that stores nothing.

Each path /ws/<room> is a topic; what a member sends goes to all members of it.
"""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode


def opened(ws):
    ws.subscribe(ws.get_user_data())


def message(ws, text, opcode):
    # socketify publishes on the app, so the sender gets it too.
    ws.publish(ws.get_user_data(), text, OpCode.TEXT)


def upgrade(response, request, context):
    response.upgrade(
        request.get_header("sec-websocket-key"),
        request.get_header("sec-websocket-protocol"),
        request.get_header("sec-websocket-extensions"),
        context,
        request.get_parameter(0),
    )


app = App()
app.ws(
    "/ws/:room",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1024 * 1024,
        "max_backpressure": 64 * 1024 * 1024,
        "idle_timeout": 600,
        "upgrade": upgrade,
        "open": opened,
        "message": message,
    },
)
app.listen(
    AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"),
    lambda config: print("listening", flush=True),
)
app.run()
