"""The two gates: what fits is let in, what does not is told why, and everything comes back."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import Admission, AdmissionLimits, Refusal, Reserved
from vqtok.errors import Overloaded, TooLarge

NOTHING = Reserved(requests=0, num_bytes=0, seconds=0.0)


def _admission(
    refusals: list[Refusal] | None = None, *, requests: int = 2, runners: int = 1
) -> Admission:
    limits = AdmissionLimits(requests=requests, body_bytes=100, total_bytes=250, seconds=10.0)
    admission = Admission(limits, (refusals if refusals is not None else []).append)
    admission.set_runners(runners)
    return admission


def test_a_full_house_refuses_and_has_room_again_when_someone_leaves() -> None:
    refusals: list[Refusal] = []
    admission = _admission(refusals)
    first, _second = admission.enter(10), admission.enter(10)
    with pytest.raises(Overloaded) as caught:
        admission.enter(10)
    assert caught.value.retry_after_seconds > 0
    assert "max_requests" in caught.value.detail
    first.release(0.2)
    admission.enter(10)
    assert refusals == ["slots"]


def test_an_unannounced_body_reserves_the_largest_one_until_it_has_arrived() -> None:
    refusals: list[Refusal] = []
    admission = _admission(refusals, requests=10)
    first, _second = admission.enter(None), admission.enter(None)
    with pytest.raises(Overloaded, match="max_total_body_bytes"):
        admission.enter(None)
    first.shrink(5)
    admission.enter(None)
    assert admission.reserved.num_bytes == 205
    assert refusals == ["bytes"]


def test_a_body_above_the_limit_is_never_let_in() -> None:
    admission = _admission()
    with pytest.raises(TooLarge) as caught:
        admission.enter(101)
    assert (caught.value.limit, caught.value.setting) == (100, "max_body_bytes")
    assert admission.reserved == NOTHING


def test_work_is_counted_per_runner() -> None:
    admission = _admission(runners=2)
    admission.enter(1).require_work(15.0)
    with pytest.raises(Overloaded) as caught:
        admission.enter(1).require_work(7.0)
    assert caught.value.retry_after_seconds == pytest.approx(1.0)


def test_work_that_would_never_fit_is_told_so() -> None:
    admission = _admission()
    reservation = admission.enter(1)
    reservation.require_work(4.0)
    with pytest.raises(TooLarge) as caught:
        reservation.require_work(11.0)
    assert caught.value.setting == "max_queue_seconds"
    reservation.release(0.1)
    assert admission.reserved == NOTHING


def test_releasing_twice_gives_back_once() -> None:
    admission = _admission()
    reservation = admission.enter(10)
    other = admission.enter(20)
    reservation.release(0.1)
    reservation.release(0.1)
    assert admission.reserved == Reserved(1, 20, 0.0)
    other.release(0.1)
    assert admission.reserved == NOTHING


@given(st.lists(st.tuples(st.integers(0, 120) | st.none(), st.floats(0, 12)), max_size=30))
def test_nothing_stays_reserved_whatever_happened(requests: list[tuple[int | None, float]]) -> None:
    admission = _admission(requests=5)
    inside = []
    for num_bytes, seconds in requests:
        try:
            inside.append(admission.enter(num_bytes))
            inside[-1].require_work(seconds)
            inside[-1].shrink(3)
        except (Overloaded, TooLarge):
            pass
        reserved = admission.reserved
        assert reserved.requests <= 5
        assert reserved.num_bytes <= 250
        assert reserved.seconds <= 10.0
    for reservation in inside:
        reservation.release(0.1)
    assert admission.reserved == NOTHING


def test_threads_that_reserve_work_at_once_never_exceed_the_limit() -> None:
    admission = _admission(requests=64)
    reservations = [admission.enter(0) for _ in range(64)]
    admitted: list[int] = []

    def reserve(index: int) -> None:
        try:
            reservations[index].require_work(1.0)
            admitted.append(index)
        except Overloaded:
            pass

    threads = [threading.Thread(target=reserve, args=(index,)) for index in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 10


def test_a_limit_below_a_second_is_told_as_it_is() -> None:
    limits = AdmissionLimits(requests=1, body_bytes=100, total_bytes=100, seconds=0.01)
    with pytest.raises(TooLarge) as caught:
        Admission(limits, lambda reason: None).enter(1).require_work(0.0234)
    assert caught.value.limit == 0.01
    assert "about 0.0234 s" in caught.value.detail
    assert "0.01 s may be queued" in caught.value.detail


def test_what_is_expected_is_reserved_only_if_it_fits_and_the_truth_takes_its_place() -> None:
    refusals: list[Refusal] = []
    admission = _admission(refusals)
    admission.enter(1).require_work(4.0)
    arriving = admission.enter(1)
    assert not arriving.expect_work(6.5)
    assert arriving.expect_work(6.0)
    assert admission.reserved.seconds == 10.0
    with pytest.raises(Overloaded) as caught:
        arriving.require_work(7.0)
    assert caught.value.retry_after_seconds == pytest.approx(1.0)
    assert "About 4 s of work" in caught.value.detail
    arriving.require_work(2.5)
    assert admission.reserved.seconds == 6.5
    assert refusals == ["work"]
