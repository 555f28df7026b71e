# tests/lib/imds.py PORT [SECONDS] - the metadata service of an Azure machine with a managed identity, as far as
# tests ask it: GET /metadata/identity/oauth2/token with "Metadata: true". The real one is only inside Azure.
#
# Its tokens are good for SECONDS and look like Microsoft Entra's to Azurite (--oauth basic), which checks
# audience, issuer and times but no signature. A line per request on stderr. client_id=nobody has no identity.
import base64
import http.server
import json
import sys
import time
from urllib.parse import parse_qs, urlsplit

port = int(sys.argv[1])
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3600


def part(claims):
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def token(audience):
    now = int(time.time())
    claims = dict(aud=audience, iss="https://sts.windows.net/00000000-0000-0000-0000-000000000000/", iat=now - 60,
                  nbf=now - 60, exp=now + seconds, oid="test", ver="1.0")
    return part(dict(typ="JWT", alg="RS256", kid="test")) + "." + part(claims) + "." + part("signature")


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, code, body):
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path != "/metadata/identity/oauth2/token" or self.headers.get("Metadata") != "true":
            self.answer(400, dict(error="invalid_request", error_description="Required metadata header not specified"))
        elif query.get("api-version") != "2018-02-01" or "resource" not in query:
            self.answer(400, dict(error="invalid_request", error_description="no version or no resource"))
        elif query.get("client_id") == "nobody":
            self.answer(400, dict(error="invalid_request", error_description="Identity not found"))
        else:
            self.answer(200, dict(access_token=token(query["resource"]), expires_in=str(seconds), token_type="Bearer",
                                  resource=query["resource"]))


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
