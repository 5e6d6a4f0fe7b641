"""Tokens, login codes and sessions: what is stored, what lets in, and what ends it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

import api.tables
from api.credentials import (
    CODE_LIFETIME,
    SESSION_LIFETIME,
    Role,
    create_login_code,
    create_token,
    end_session,
    fingerprint,
    identify,
    list_tokens,
    open_session,
    revoke_token,
)
from devices.errors import ConfigError
from storage.metadata import metadata, open_engine

NOW = 1_767_225_600_000


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(f"sqlite:///{tmp_path}/songhua.db")
    metadata.create_all(engine)
    return engine


def _redeem(engine: Engine, now: int = NOW, **secret: str) -> str | None:
    opened = open_session(engine, address="192.0.2.1", now=now, **secret)
    return opened[0] if opened else None


def test_no_secret_is_stored_in_plain_text(engine: Engine, tmp_path: Path) -> None:
    token = create_token(engine, "grafana", "viewer", now=NOW)
    code = create_login_code(engine, "li", "operator", now=NOW)
    session = _redeem(engine, code=code)
    assert session is not None
    engine.dispose()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (token, code, session):
        assert len(secret) >= 43  # 256 bits in base64
        assert secret.encode() not in stored


def test_a_token_identifies_its_holder_until_it_expires(engine: Engine) -> None:
    token = create_token(engine, "shift", Role.operator, districts=["230103", "230102"], expires_at=NOW + 1000, now=NOW)
    holder = identify(engine, fingerprint(token), "token", NOW + 999)
    assert holder is not None
    assert (holder.name, holder.role) == ("shift", Role.operator)
    assert holder.districts == frozenset({"230102", "230103"})
    assert identify(engine, fingerprint(token), "token", NOW + 1000) is None
    assert identify(engine, fingerprint(token), "session", NOW) is None


def test_an_empty_list_of_districts_is_not_the_whole_city(engine: Engine) -> None:
    holder = identify(
        engine, fingerprint(create_token(engine, "nobody", "viewer", districts=[], now=NOW)), "token", NOW
    )
    assert holder is not None
    assert holder.districts == frozenset()
    assert not holder.sees("230102")


def test_a_login_code_opens_exactly_one_session_even_when_many_try_at_once(engine: Engine) -> None:
    code = create_login_code(engine, "li", "viewer", now=NOW)
    with ThreadPoolExecutor(8) as threads:
        sessions = list(threads.map(lambda _: _redeem(engine, code=code), range(16)))
    assert sum(session is not None for session in sessions) == 1


def test_a_login_code_is_useless_after_its_time(engine: Engine) -> None:
    code = create_login_code(engine, "li", "viewer", now=NOW)
    assert _redeem(engine, now=NOW + CODE_LIFETIME, code=code) is None
    assert _redeem(engine, now=NOW + CODE_LIFETIME - 1, code=code) is not None


def test_a_session_ends_by_time_by_logout_and_with_its_token(engine: Engine) -> None:
    token = create_token(engine, "wall", "viewer", now=NOW)
    by_time, by_logout, by_revocation = (_redeem(engine, token=token) for _ in range(3))
    assert by_time and by_logout and by_revocation
    holder = identify(engine, fingerprint(by_logout), "session", NOW)
    assert holder is not None
    end_session(engine, holder, address="", now=NOW)
    assert identify(engine, fingerprint(by_logout), "session", NOW) is None
    assert identify(engine, fingerprint(by_time), "session", NOW + SESSION_LIFETIME - 1) is not None
    assert identify(engine, fingerprint(by_time), "session", NOW + SESSION_LIFETIME) is None
    assert revoke_token(engine, "wall", now=NOW + 5) == 3  # the token and the two sessions still open
    assert identify(engine, fingerprint(by_revocation), "session", NOW + 5) is None
    assert identify(engine, fingerprint(token), "token", NOW + 5) is None


def test_a_session_of_a_token_does_not_outlive_it(engine: Engine) -> None:
    token = create_token(engine, "short", "viewer", expires_at=NOW + 1000, now=NOW)
    opened = open_session(engine, token=token, address="", now=NOW)
    assert opened is not None
    assert opened[1].expires_at == NOW + 1000


def test_revoking_a_name_ends_the_sessions_its_login_codes_opened(engine: Engine) -> None:
    session = _redeem(engine, code=create_login_code(engine, "li", "viewer", now=NOW))
    assert session is not None
    assert revoke_token(engine, "li", now=NOW) == 1
    assert identify(engine, fingerprint(session), "session", NOW) is None


def test_two_living_tokens_never_share_a_name(engine: Engine) -> None:
    create_token(engine, "grafana", "viewer", now=NOW)
    with pytest.raises(ConfigError, match="exists"):
        create_token(engine, "grafana", "admin", now=NOW)
    revoke_token(engine, "grafana", now=NOW)
    create_token(engine, "grafana", "admin", now=NOW)
    assert [(token.role, token.revoked_at) for token in list_tokens(engine)].count((Role.viewer, NOW)) == 1


def test_revoking_what_does_not_live_says_so(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="no living"):
        revoke_token(engine, "nobody", now=NOW)


@pytest.mark.parametrize(
    ("name", "role", "districts"),
    [("", "viewer", None), ("a\nb", "viewer", None), ("x" * 65, "viewer", None), ("a", "root", None)]
    + [("a", "viewer", [code]) for code in ("23010", "2301022", "23010a", "２３０１０２")],
)
def test_what_cannot_be_right_is_refused_with_what_was_expected(
    engine: Engine, name: str, role: str, districts: list[str] | None
) -> None:
    with pytest.raises(ConfigError, match="expected"):
        create_token(engine, name, role, districts=districts)
    with pytest.raises(ConfigError, match="expected"):
        create_login_code(engine, name, role, districts=districts)


def test_every_change_leaves_a_row_in_the_audit_trail(engine: Engine) -> None:
    token = create_token(engine, "wall", "viewer", actor="admin:li", now=NOW)
    session = _redeem(engine, token=token)
    assert session is not None
    _redeem(engine, token="wrong")
    holder = identify(engine, fingerprint(session), "session", NOW)
    assert holder is not None
    end_session(engine, holder, address="192.0.2.1", now=NOW)
    revoke_token(engine, "wall", now=NOW)
    create_login_code(engine, "li", "viewer", now=NOW)
    trail = api.tables.audit_trail
    with engine.connect() as connection:
        rows = connection.execute(select(trail.c.action, trail.c.outcome, trail.c.actor).order_by(trail.c.seq)).all()
    assert [tuple(row) for row in rows] == [
        ("token.create", "done", "admin:li"),
        ("login", "done", "wall"),
        ("login", "refused", ""),
        ("logout", "done", "wall"),
        ("token.revoke", "done", "command line"),
        ("code.create", "done", "command line"),
    ]
