# SPDX-License-Identifier: Apache-2.0
"""An issuer of tokens: keys of every kind, its key set, its HTTPS certificate, and tokens good and bad."""
import base64
import datetime
import json
import os
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.x509.oid import NameOID

from .yamlout import write_atomically

ISSUER, AUDIENCE, HOST = "https://auth.mycompany.com", "api-service", "auth.mycompany.com"


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value):
    return _b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Key:
    """A private key of one algorithm (RS256, PS256, ES256, EdDSA) and its kid."""

    def __init__(self, algorithm, kid):
        self.algorithm, self.kid = algorithm, kid
        if algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = rsa.generate_private_key(65537, 2048)

    def jwk(self):
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        public = self.key.public_key()
        if self.algorithm == "EdDSA":
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return {**common, "kty": "OKP", "crv": "Ed25519", "x": _b64(raw)}
        numbers = public.public_numbers()
        if self.algorithm == "ES256":
            return {**common, "kty": "EC", "crv": "P-256", "x": _b64(numbers.x.to_bytes(32, "big")),
                    "y": _b64(numbers.y.to_bytes(32, "big"))}
        return {**common, "kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}

    def signature(self, data):
        if self.algorithm == "EdDSA":
            return self.key.sign(data)
        if self.algorithm == "ES256":
            r, s = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        fill = padding.PKCS1v15()
        if self.algorithm == "PS256":
            fill = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return self.key.sign(data, fill, hashes.SHA256())

    def token(self, kid=None, algorithm=None, signed=True, **claims):
        """A token that is good for an hour, but for what `claims` and the header fields say."""
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600, **claims}
        head = {"alg": algorithm or self.algorithm, "kid": kid or self.kid, "typ": "JWT"}
        text = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(body).encode())}"
        return f"{text}.{_b64(self.signature(text.encode()))}" if signed else f"{text}."


def tampered(token):
    """The same signature over other claims."""
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "mallory"
    return f"{head}.{_b64(json.dumps(claims).encode())}.{signature}"


class Issuer:
    """Its files: ca.pem, and in `folder` the certificate of HOST, its key and jwks.json."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.keys = {algorithm: Key(algorithm, f"{algorithm.lower()}-1")
                     for algorithm in ("RS256", "PS256", "ES256", "EdDSA")}
        self.path = {name: os.path.join(folder, name) for name in ("ca.pem", "cert.pem", "key.pem", "jwks.json")}
        self._write_certificates()
        self.publish()

    def publish(self):
        write_atomically(self.path["jwks.json"], json.dumps({"keys": [key.jwk() for key in self.keys.values()]}))

    def rotate(self, algorithm, kid):
        """A new key in place of the one of that algorithm; the old key."""
        old, self.keys[algorithm] = self.keys[algorithm], Key(algorithm, kid)
        self.publish()
        return old

    def _write_certificates(self):
        def certificate(subject, key, issuer, signer, ca):
            now = datetime.datetime.now(datetime.timezone.utc)
            builder = (x509.CertificateBuilder()
                       .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
                       .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now - datetime.timedelta(hours=1))
                       .not_valid_after(now + datetime.timedelta(days=1))
                       .add_extension(x509.BasicConstraints(ca, None), critical=True))
            if not ca:
                builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), False)
            return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        name = "Culvert lab issuer CA"
        write_atomically(self.path["ca.pem"], certificate(name, ca_key, name, ca_key, True))
        write_atomically(self.path["cert.pem"], certificate(HOST, key, name, ca_key, False))
        write_atomically(self.path["key.pem"], key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(), 0o600)


__all__ = ["AUDIENCE", "HOST", "ISSUER", "Issuer", "Key", "tampered"]
