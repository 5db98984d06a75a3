"""A real SMTP server (aiosmtpd) for tests and the demo. It writes every mail to a file, each as a JSON object on a line.

usage: smtp.py PORT FILE [--starttls CERT KEY] [--login USER PASSWORD]
It answers 250 only after the mail is in the file.
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl
import time

from aiosmtpd.smtp import SMTP, AuthResult


class Keep:
    """Writes mails to the file. Refuses a mailbox whose name begins with "dead-" for good, and one with "busy-" for now."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("dead-"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("busy-"):
            return "450 4.2.1 mailbox busy, try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        self.file.write(json.dumps({
            "timeMs": int(time.time() * 1000), "from": envelope.mail_from, "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()}, "parts": parts,
            "tls": session.ssl is not None, "login": session.auth_data if isinstance(session.auth_data, str) else None,
        }) + "\n")
        self.file.flush()
        return "250 OK"


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("port", type=int)
    flags.add_argument("file")
    flags.add_argument("--starttls", nargs=2, metavar=("CERT", "KEY"))
    flags.add_argument("--login", nargs=2, metavar=("USER", "PASSWORD"))
    flags = flags.parse_args()
    options = {"hostname": "smtp.test"}
    if flags.starttls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*flags.starttls)
        options.update(tls_context=context, require_starttls=True)
    if flags.login:
        user, password = flags.login

        def check(server, session, envelope, mechanism, data):
            good = data.login == user.encode() and data.password == password.encode()
            # If the login is not marked as handled, aiosmtpd answers 535.
            return AuthResult(success=good, handled=good, auth_data=user)

        options.update(authenticator=check, auth_required=True, auth_require_tls=bool(flags.starttls))
    keep = Keep(flags.file)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(keep, **options), "0.0.0.0", flags.port))
    print("listening on", flags.port, flush=True)
    try:
        loop.run_forever()
    finally:
        server.close()


main()
