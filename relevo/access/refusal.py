"""Why somebody may not ask: `Refused`, and what kind of refusal it is."""

from __future__ import annotations

__all__ = ["KINDS", "Refused"]

KINDS = {401: "unauthenticated", 403: "forbidden", 503: "issuer"}
"""By status: what a refusal is counted as. `issuer`: nobody can say just now whether the token is good."""


class Refused(Exception):
    """The request is not let in. The message is the reason, safe to tell the caller and to log: it never quotes the credential."""

    def __init__(self, status: int, reason: str, *, who: str = "", presented: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.who = who
        """The key's name or the token's subject, where that was proven before it was refused; for the log."""
        self.presented = presented
        """Whether there was a credential at all."""

    @property
    def challenge(self) -> str:
        """The header WWW-Authenticate, by RFC 6750; empty for 503."""
        if self.status == 503:
            return ""
        if not self.presented:
            return 'Bearer realm="relevo"'
        code = "insufficient_scope" if self.status == 403 else "invalid_token"
        return f'Bearer realm="relevo", error="{code}", error_description="{_quotable(self.reason)}"'


def _quotable(text: str) -> str:
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in text)[:200]
