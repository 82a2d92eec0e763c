"""Tokens: whatever is given is good or refused; the rules of good ones are in tests/component/test_access.py, with a real issuer."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from relevo import errors
from relevo.access.jwks import Jwks, PublicKey, parse_jwks
from relevo.access.refusal import Refused
from relevo.access.settings import Oidc
from relevo.access.tokens import REFETCH_SECONDS, Issuer

SETTINGS = Oidc(issuer="https://id.example.com", audience="relevo")
PRIVATE = ec.generate_private_key(ec.SECP256R1())
KEYS = Jwks((PublicKey("1", "ES256", PRIVATE.public_key()),), "one")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def signed(claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
    return jwt.encode(claims, PRIVATE, algorithm="ES256", headers={"kid": "1"} | (headers or {}))


def good() -> dict[str, Any]:
    return {"iss": SETTINGS.issuer, "aud": SETTINGS.audience, "sub": "ada", "exp": int(time.time()) + 600}


def verdict(token: str) -> str:
    """The subject, or "refused" and the status."""
    try:
        return asyncio.run(Issuer(SETTINGS, fetch=lambda _: KEYS).check(token))
    except Refused as refused:
        return f"refused {refused.status}"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@given(st.text(max_size=60) | st.builds("{}.{}.{}".format, JSON.map(encoded), JSON.map(encoded), st.text(max_size=8)))
def test_no_text_is_an_error_of_ours(text: str) -> None:
    """Neither garbage nor something that looks like a token."""
    assert verdict(text) == "refused 401"


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "jku", "x5u"]), JSON, min_size=1))
def test_no_header_lets_in_what_is_not_signed(header: dict[str, Any]) -> None:
    """A token cannot bring its own key, nor choose to have none."""
    assert verdict(f"{encoded(header)}.{encoded(good())}.") == "refused 401"


@given(st.sampled_from(["exp", "nbf", "iat", "iss", "aud"]), JSON)
def test_claims_of_any_kind_are_judged(claim: str, value: object) -> None:
    """Signed by the right key: only what is right lets in, and nothing makes an error of ours."""
    body = base64.urlsafe_b64encode(json.dumps(good() | {claim: value}).encode()).rstrip(b"=")
    found = verdict(jwt.api_jws.encode(base64.urlsafe_b64decode(body + b"=="), PRIVATE, "ES256", {"kid": "1"}))
    assert found in ("ada", "refused 401")
    if claim in ("exp", "iss"):
        assert found == "refused 401" or (isinstance(value, int | float) and value > time.time() - 60)


def test_an_exp_that_is_no_time_is_refused() -> None:
    """1e999 is infinite: no integer."""
    body = json.dumps(good()).replace(str(good()["exp"]), "1e999").encode()
    assert verdict(jwt.api_jws.encode(body, PRIVATE, "ES256", {"kid": "1"})) == "refused 401"


def test_what_is_remembered_ends_with_the_token_and_with_the_keys() -> None:
    """A signature is checked once; when the token is over, or its issuer withdrew the key, it is forgotten."""
    now, clock, keys = [time.time()], [0.0], [KEYS]
    issuer = Issuer(SETTINGS, fetch=lambda _: keys[0], now=lambda: now[0], monotonic=lambda: clock[0])
    token = signed(good())

    async def life() -> None:
        assert issuer.remembered(token) is None
        assert await issuer.check(token) == "ada"
        assert issuer.remembered(token) == "ada"
        now[0] += 700
        assert issuer.remembered(token) is None
        now[0] -= 700
        keys[0] = Jwks((PublicKey("2", "ES256", ec.generate_private_key(ec.SECP256R1()).public_key()),), "two")
        clock[0] += 3600
        await issuer.refresh_if_due()
        assert issuer.remembered(token) is None
        with pytest.raises(Refused) as refused:
            await issuer.check(token)
        assert refused.value.status == 401

    asyncio.run(life())


def test_the_issuer_is_asked_once_for_all_who_wait_and_then_not_for_a_while() -> None:
    """However many come with unknown keys at once; and when it does not answer, they are told 503."""
    asked, clock = [0], [1000.0]

    def fetch(_: Oidc) -> Jwks:
        asked[0] += 1
        raise errors.Transient("no answer")

    issuer = Issuer(SETTINGS, fetch=fetch, monotonic=lambda: clock[0])

    async def crowd() -> None:
        for expected in (1, 1, 2):
            found = await asyncio.gather(*(issuer.check(signed(good())) for _ in range(20)), return_exceptions=True)
            assert [one.status for one in found if isinstance(one, Refused)] == [503] * 20
            assert asked[0] == expected
            if expected == 1:
                clock[0] += REFETCH_SECONDS / 2 + 0.1

    asyncio.run(crowd())


def test_only_keys_that_are_strong_enough_are_taken() -> None:
    """RSA of 2048 bits and P-256, for signatures; encryption keys, other curves, small and symmetric ones are not looked at."""

    def entry(kind: Any, key: Any, **fields: str) -> dict[str, Any]:
        return {**kind.to_jwk(key.public_key(), as_dict=True), **fields}

    rsa_kind, ec_kind = jwt.algorithms.RSAAlgorithm, jwt.algorithms.ECAlgorithm
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    entries = [
        entry(rsa_kind, big, kid="good"),
        entry(ec_kind, PRIVATE, kid="fine", alg="ES256"),
        entry(rsa_kind, small, kid="small"),
        entry(rsa_kind, big, kid="encrypts", use="enc"),
        entry(rsa_kind, big, kid="other", alg="RS512"),
        entry(ec_kind, ec.generate_private_key(ec.SECP384R1()), kid="curve"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"},
        {"kty": "RSA"},
        "nonsense",
    ]
    found = parse_jwks(SETTINGS, {"keys": entries})
    assert [(key.id, key.algorithm) for key in found.keys] == [("good", "RS256"), ("fine", "ES256")]
    with pytest.raises(errors.Transient, match="publishes no RS256 or ES256 key"):
        parse_jwks(SETTINGS, {"keys": entries[2:]})
