"""Real receivers for notifications: `receivers.py KIND [CERTIFICATE KEY]` prints its port, then a JSON line for all it receives.

http, https     Python's own HTTP server
smtp            aiosmtpd: STARTTLS if there is a certificate, and then a login (ci, the password below) before any mail
smtps           the same with TLS from the first byte
Ends with its standard input.
"""
import asyncio, http.server, json, ssl, sys, threading

kind, certificate = sys.argv[1], sys.argv[2:4]
PASSWORD = b"sm+p/p@ss w\xc3\xb6rd"


def say(**fields):
    print(json.dumps(fields), flush=True)


def tls():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


class Post(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        say(path=self.path, type=self.headers["content-type"], body=json.loads(body))
        status = 500 if self.path.startswith("/broken") else 302 if self.path.startswith("/moved") else 200
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/elsewhere")
        self.end_headers()
        self.wfile.write(b"no_service\nsecond line" if status == 500 else b"ok")

    def log_message(self, *_):
        pass


def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Post)
    if kind == "https":
        server.socket = tls().wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def mail():
    from aiosmtpd.smtp import SMTP, AuthResult

    class Mail:
        async def handle_DATA(self, server, session, envelope):
            say(sender=envelope.mail_from, recipients=envelope.rcpt_tos, login=session.auth_data is not None,
                tls=session.ssl is not None or kind == "smtps", content=envelope.content.decode())
            return "250 taken"

    def login(server, session, envelope, mechanism, data):
        good = data.login == b"ci" and data.password == PASSWORD
        return AuthResult(success=good, handled=good, auth_data="ci" if good else None)

    options, wrapped = {}, None
    if certificate:
        options = dict(authenticator=login, auth_required=True)
        if kind == "smtps":
            wrapped = tls()
            options.update(auth_require_tls=False)
        else:
            options.update(tls_context=tls(), require_starttls=True)
    loop = asyncio.new_event_loop()
    serving = loop.create_server(lambda: SMTP(Mail(), loop=loop, **options), "127.0.0.1", 0, ssl=wrapped)
    server = loop.run_until_complete(serving)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return server.sockets[0].getsockname()[1]


print(web() if kind.startswith("http") else mail(), flush=True)
sys.stdin.read()
