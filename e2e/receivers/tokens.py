"""A token endpoint for tests (RFC 6749, section 4.4). It gives one client signed tokens (JWT, RS256) that last SECONDS.

usage: tokens.py PORT PKI FILE CLIENT SECRET SECONDS
PKI is the folder with tokens.crt, tokens.key and tokens-signing.key. Each request becomes a JSON object in FILE, without the
secret. A caller that does not show the secret gets no token.
"""

import base64
import http.server
import json
import ssl
import subprocess
import sys
import time
import urllib.parse

PORT, PKI, FILE, CLIENT, SECRET, SECONDS = int(sys.argv[1]), *sys.argv[2:6], int(sys.argv[6])


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(audience):
    now = int(time.time())
    head = {"alg": "RS256", "typ": "JWT", "kid": "testbed"}
    claims = {"iss": "https://testbed", "sub": CLIENT, "aud": audience, "iat": now, "exp": now + SECONDS}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    sign = ["openssl", "dgst", "-sha256", "-sign", f"{PKI}/tokens-signing.key"]
    signature = subprocess.run(sign, input=signed.encode(), stdout=subprocess.PIPE, check=True).stdout
    return f"{signed}.{encoded(signature)}"


class Endpoint(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        form = dict(urllib.parse.parse_qsl(body))
        kind, _, shown = self.headers.get("authorization", "").partition(" ")
        known = kind == "Basic" and base64.b64decode(shown).decode() == f"{CLIENT}:{SECRET}"
        granted = known and form.get("grant_type") == "client_credentials"
        if granted:
            self.answer(200, {"access_token": token(form.get("audience", "none")), "token_type": "Bearer",
                              "expires_in": SECONDS})
        else:
            self.answer(401, {"error": "invalid_client", "error_description": "unknown client or wrong secret"})
        with open(FILE, "a", encoding="utf-8") as log:
            log.write(json.dumps({"timeMs": int(time.time() * 1000), "granted": granted, "form": form}) + "\n")

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{PKI}/tokens.crt", f"{PKI}/tokens.key")
server = http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Endpoint)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
