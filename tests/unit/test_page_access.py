"""Who may use the page: sessions that end, a PIN that cannot be guessed, a pairing that works once, rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.errors import UsageError
from edge.web import access
from edge.web.access import Pairing, Pin, Rate, SessionBook
from edge.web.serve import Opening, door, is_loopback


def test_a_session_ends_when_idle_and_after_a_working_day():
    book = SessionBook()
    session = book.start(0.0, trusted=True)
    now = 0.0
    while now < access.LONGEST_SECONDS - access.IDLE_SECONDS:
        now += access.IDLE_SECONDS - 1
        assert book.get(session.token, now) is session
    assert book.get(session.token, access.LONGEST_SECONDS + 1) is None
    other = book.start(0.0, trusted=True)
    assert book.get(other.token, access.IDLE_SECONDS + 1) is None
    assert book.get("", 0.0) is None and len(book) == 0


def test_strangers_do_not_put_out_those_who_have_shown_the_pin():
    book = SessionBook()
    known = book.start(0.0, trusted=True)
    tokens = {book.start(1.0, trusted=False).token for _ in range(10 * access.MOST_SESSIONS)}
    assert len(tokens) == 10 * access.MOST_SESSIONS
    assert len(book) == access.MOST_SESSIONS
    assert book.get(known.token, 2.0) is known


def test_trust_comes_with_a_new_token():
    book = SessionBook()
    stranger = book.start(0.0, trusted=False)
    stranger.operator = "A. Okafor"
    known = book.start(1.0, trusted=True, like=stranger)
    assert known.token != stranger.token and known.csrf != stranger.csrf and known.operator == "A. Okafor"
    assert book.get(stranger.token, 1.0) is None


@pytest.mark.parametrize("pin", ["", "12345", "111111", "121212", " 12 ", "000000000"])
def test_a_pin_that_is_easily_guessed_is_refused(pin):
    with pytest.raises(UsageError, match="fewer than"):
        Pin(pin)


def test_guessing_is_locked_for_longer_each_time_and_the_right_pin_does_not_help_meanwhile():
    pin = Pin("480213")
    now, tried = 0.0, 0
    while now < 24 * 3600:
        assert not pin.try_("000001", now)
        tried += 1
        if wait := pin.locked_for(now):
            assert not pin.try_("480213", now)
            assert wait <= access.LONGEST_LOCK_SECONDS
            now += wait
    assert tried < 120
    assert pin.try_(" 480213 ", now)
    assert pin.locked_for(now) == 0


def test_a_pairing_works_once_and_not_for_ever():
    pairing = Pairing(0.0)
    assert not pairing.try_("", 1.0) and not pairing.try_(pairing.token + "x", 1.0)
    assert pairing.try_(pairing.token, 2.0)
    assert not pairing.try_(pairing.token, 3.0)
    late = Pairing(0.0)
    assert not late.try_(late.token, access.PAIRING_SECONDS + 1)


@given(st.lists(st.floats(0, 2), max_size=300))
def test_a_rate_is_kept_for_each_client_however_they_ask(pauses):
    rate, now, allowed = Rate(per_second=2, burst=5, most_clients=4), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += rate.allows("one", now)
    assert allowed <= 5 + 2 * now + 1e-6
    assert rate.allows("two", now)


def test_many_clients_do_not_fill_the_memory():
    rate = Rate(per_second=1, burst=1)
    for number in range(2000):
        rate.allows(str(number), 0.0)
    assert len(rate._levels) <= rate.most_clients


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "scope.local", "10.0.0.1"])
def test_the_network_needs_a_pin_or_a_pairing(host):
    assert not is_loopback(host)
    with pytest.raises(UsageError) as caught:
        door(Opening(host))
    assert caught.value.code == "pin-missing" and "LEUKO_PIN" in caught.value.cure
    assert door(Opening(host, pin="480213")).guarded
    assert door(Opening(host, pair=True)).pairing is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_this_machine_alone_needs_none(host):
    assert not door(Opening(host)).guarded
    assert door(Opening(host, pin="480213")).guarded
