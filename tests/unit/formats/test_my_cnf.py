"""The credential file, byte for byte."""

from __future__ import annotations

import configparser
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.my_cnf import LIMIT, BadCredentials, Credentials, parse, render
from labstore.model.accounts import DbUser, NativeHash
from labstore.model.secret import Secret

PASSWORDS = st.text("abcXYZ0189", min_size=8, max_size=40)
USERS = st.integers(1, 9999999999).map(lambda number: DbUser(f"s{number}"))


def original(user: str, password: str) -> bytes:
    """What the original's library wrote."""
    config = configparser.ConfigParser()
    config["client"] = {"user": user, "password": password}
    text = io.StringIO()
    config.write(text)
    return text.getvalue().encode()


def test_the_exact_bytes() -> None:
    made = render(Credentials(DbUser("s52788"), Secret("abcdefghijklmnop")))
    assert made == b"[client]\nuser = s52788\npassword = abcdefghijklmnop\n\n"


@given(USERS, PASSWORDS)
def test_the_same_bytes_as_the_original(user: DbUser, password: str) -> None:
    assert render(Credentials(user, Secret(password))) == original(user, password)


@given(USERS, PASSWORDS)
def test_what_is_written_reads_back(user: DbUser, password: str) -> None:
    read = parse(render(Credentials(user, Secret(password))))
    assert (read.user, read.password) == (user, Secret(password))
    assert read.verifier == NativeHash.of(Secret(password))


@pytest.mark.parametrize(
    "content",
    [
        b"[client]\nuser = 's1'\npassword = 'secret99'\n",
        b"[client]\nuser='s1'\npassword='secret99'",
        b"[client]\r\nuser: s1\r\npassword: secret99\r\n",
        b"# by hand\n[mysql]\nuser = x\n\n[client]\n; note\nuser=s1\nhost=db\npassword=secret99\n[x]\npassword=no\n",
    ],
)
def test_the_originals_tolerance(content: bytes) -> None:
    read = parse(content)
    assert (read.user, read.password.reveal()) == ("s1", "secret99")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"user = s1\npassword = x\n", b"[client]\nuser = s1\n", b"[client]\npassword = secret99\n"),
        *(b"[client]\nuser = root\npassword = secret99\n", b"[client]\nuser = s1\nuser = s2\npassword = secret99\n"),
        *(
            b"[client]\nuser = s1\npassword = \n",
            b"[client]\nuser = s1\npassword = a b\n",
            b"\xff\xfe",
            b"[client]\n" + b"#" * LIMIT,
        ),
        b"root:x:0:0:root:/root:/bin/bash\n",
    ],
)
def test_what_is_refused(content: bytes) -> None:
    with pytest.raises(BadCredentials) as refused:
        parse(content)
    assert "root" not in str(refused.value) and "x:0" not in str(refused.value), "a reader must not give files away"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        parse(content)
    except BadCredentials:
        return


@pytest.mark.parametrize("password", ["", "short", "with space1", "quote'quote", "line\nfeed1", "a" * 65])
def test_passwords_that_are_not_ours_are_not_written(password: str) -> None:
    with pytest.raises(ValueError, match="letters and digits"):
        render(Credentials(DbUser("s1"), Secret(password)))


def test_credentials_show_no_password() -> None:
    assert "hunter22" not in repr(Credentials(DbUser("s1"), Secret("hunter22")))
