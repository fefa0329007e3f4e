"""Sealer: keeps secrets of Discord and of providers unreadable in the database and its backups.

The keys are derived from the bot's token, which the database does not hold. With another token, what was sealed before
cannot be read any more.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEALED = "sealed:"
DIGEST = "digest:"
"""Beginnings of sealed texts and digests: interaction tokens and webhook paths hold no colon."""

_NONCE_BYTES = 12
_KEY_NAME_DIGITS = 8


class Sealer:
    """Seals texts that are needed again, and makes digests of those that only have to be recognised."""

    def __init__(self, bot_token: str) -> None:
        self._cipher = AESGCM(_derived_key(bot_token, b"image-bot interaction tokens"))
        self._digest_key = _derived_key(bot_token, b"image-bot webhook paths")
        key_name = hmac.new(self._digest_key, b"name", sha256).hexdigest()[:_KEY_NAME_DIGITS]
        self.sealed_prefix = f"{SEALED}{key_name}:"
        """How every text begins that this sealer can open."""

    def seal(self, text: str) -> str:
        """Return the sealed text; one that is sealed already stays as it is."""
        if text.startswith(SEALED):
            return text
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), self.sealed_prefix.encode())
        return self.sealed_prefix + base64.urlsafe_b64encode(sealed).decode()

    def open(self, text: str) -> str | None:
        """Return the text that was sealed; None if that was with another token. What is not sealed is returned."""
        if not text.startswith(SEALED):
            return text
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(self.sealed_prefix))
            nonce, sealed = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, sealed, self.sealed_prefix.encode()).decode()
        except (InvalidTag, ValueError):
            return None

    def digest(self, text: str) -> str:
        """Return the keyed hash of a text."""
        return DIGEST + hmac.new(self._digest_key, text.encode(), sha256).hexdigest()


def _derived_key(bot_token: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(bot_token.encode())
