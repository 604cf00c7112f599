"""FireWorks' web page of a farm, with a password on all of it.

    python page.py FOLDER [--database qfarm] [--host 127.0.0.1] [--port 5000]

FOLDER holds ``web.uri``, the address of a user with the role `dashboard`, and ``password``, which
the browser asks for (user ``qfarm``); both of mode 0600. `lpad webgui --webgui_password` would show
the password in the list of processes, and leaves one path of the page open.
"""

import argparse
import hmac
from pathlib import Path

from fireworks import LaunchPad
from fireworks.flask_site.app import app
from flask import Response, request
from werkzeug.serving import make_server

from qfarm.private import read_private

USER = "qfarm"


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    asked = _parse(arguments)
    password = read_private(asked.folder / "password", "the page's password")
    address = read_private(asked.folder / "web.uri", "the page's address of MongoDB")
    app.lp = LaunchPad(host=address, name=asked.database, uri_mode=True, strm_lvl="WARNING")
    app.before_request(lambda: _refusal(password))
    server = make_server(asked.host, asked.port, app, threaded=True)
    print(f"http://{asked.host}:{server.server_port}", flush=True)
    server.serve_forever()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where web.uri and password are")
    parser.add_argument("--database", default="qfarm", help="the farm's database")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port; 0: any")
    return parser.parse_args(arguments)


def _refusal(password: str) -> Response | None:
    """What is answered to a request without the password; None lets it through."""
    given = request.authorization
    known = given is not None and given.type == "basic" and given.username == USER
    said = (given.password or "") if given is not None and known else ""
    if hmac.compare_digest(said.encode(), password.encode()):
        return None
    return Response("Sign in", 401, {"WWW-Authenticate": 'Basic realm="qfarm"'})


if __name__ == "__main__":
    main()
