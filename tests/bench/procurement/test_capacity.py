"""Fleets: by hand where nothing waits, against a simulated queue where requests do."""

import heapq
from dataclasses import replace

import numpy as np
import pytest

from bench.procurement.capacity import capacity, request_times
from bench.procurement.fleet import needed, priced, rate_at_load
from bench.procurement.inputs import Latency
from bench.procurement.laws import Draws
from bench.procurement.measured import measured_points
from bench.procurement.queueing import SHARE_IN_TIME, waiting
from tests.bench.procurement.campaign import Device, campaign, inputs
from tests.bench.procurement.points import cell, point

DRAWS = Draws(count=500)
NO_LIMIT = Latency(first_canvas_s=None, canvas_gap_s=None, end_to_end_s=None)


def test_a_reply_takes_its_first_canvas_and_a_gap_for_every_further_one() -> None:
    load = inputs(load={"requests_per_s": 1, "reply_tokens": [100, 256, 257, 1024]}).load
    assert load

    found = request_times(point(), load, NO_LIMIT, DRAWS)

    # 1.0, 1.0, 1.5 and 2.5 s.
    assert found.end_to_end_p95_s.value == pytest.approx(2.5)
    assert found.feasible is True


def test_a_device_s_rate_at_a_load_is_of_its_mean_reply() -> None:
    """Replies of 1.0, 1.0, 1.5 and 2.5 s; four at once."""
    replies = np.array([100, 256, 257, 1024])
    times = {"first_canvas_s": np.array([1.0]), "canvas_gap_s": np.array([0.5])}
    assert rate_at_load(times, point(), replies) == pytest.approx(4 * replies.mean() / 1.5)


def test_limits_are_judged_with_their_numbers() -> None:
    load = inputs(load={"requests_per_s": 1, "reply_tokens": [100, 1024]}).load
    assert load
    limits = Latency(first_canvas_s=0.9, canvas_gap_s=0.5, end_to_end_s=2.4)

    slow = request_times(point(), load, limits, DRAWS)
    unknown = request_times(
        point(first_canvas_s=cell(None)), load, replace(limits, first_canvas_s=2), DRAWS
    )

    assert slow.feasible is False
    assert slow.reasons == ("first delivery 1 s > 0.9 s", "end to end 2.5 s > 2.4 s")
    assert unknown.feasible is None
    assert unknown.end_to_end_p95_s.value is None
    assert any("first delivery" in reason for reason in unknown.reasons)


def test_how_sure_a_limit_is_kept_comes_from_the_draws() -> None:
    load = inputs(load={"requests_per_s": 1, "reply_tokens": 100}).load
    assert load
    near = point(first_canvas_s=cell(1.0, 0.9, 1.1), canvas_gap_s=cell(0.5, 0.45, 0.55))

    at_the_value = request_times(near, load, replace(NO_LIMIT, first_canvas_s=1.0), DRAWS)
    above = request_times(near, load, replace(NO_LIMIT, first_canvas_s=1.3), DRAWS)

    assert at_the_value.share_feasible == pytest.approx(0.5, abs=0.1)
    assert above.share_feasible == 1.0


def test_a_fleet_without_limits_is_its_work_over_its_utilisation() -> None:
    given = inputs(load={"requests_per_s": 10, "reply_tokens": 1024})
    rented, bought = given.offers

    found = capacity(given, rented, point(), DRAWS)

    # 10 requests a second of 2.5 s keep 25 slots busy; 4 a device, of which half may be used.
    assert found.devices.value == 13
    assert found.decided_by == "utilisation"
    assert found.utilisation.value == pytest.approx(25 / 52)
    assert found.cost_per_month.value == pytest.approx(13 * 3.0 * 730.5)
    assert found.cost_per_mtok.value == pytest.approx(13 * 3.0 / (10 * 1024 * 3600) * 1e6)

    hourly = 32000 / (4 * 8766) + (0.35 + 0.1 * (1 - 25 / 52)) * 1.3 * 0.2
    joules = 600 / (4 * 1024 / 2.5)  # the power at the load's lengths, every slot in use
    energy = 10 * 1024 * joules * 1.3 * 0.2 / 1e3
    bought_cost = capacity(given, bought, point(), DRAWS).cost_per_month.value
    assert bought_cost == pytest.approx((13 * hourly + energy) * 730.5, rel=1e-3)


def test_a_concurrency_gets_a_slot_for_its_95th_percentile() -> None:
    given = inputs(load={"concurrency": [4, 8, 8, 33], "reply_tokens": 1024})

    found = capacity(given, given.offers[0], point(), DRAWS)

    assert (found.devices.value, found.decided_by) == (9, "concurrency")
    assert found.utilisation.value == pytest.approx(13.25 / 36)


def test_what_decides_the_size_is_told() -> None:
    def by(**load: object) -> str:
        given = inputs(load={"reply_tokens": 1024, **load})
        return capacity(given, given.offers[0], point(), DRAWS).decided_by

    assert by(requests_per_s=10) == "utilisation"
    assert by(requests_per_s=10, concurrency=[200]) == "concurrency"
    assert by(requests_per_s=10, concurrency=[8]) == "utilisation"
    assert by(concurrency=1) == "concurrency"


def test_waiting_adds_devices_until_requests_come_in_time() -> None:
    load = {"requests_per_s": 1.2, "reply_tokens": 1024}
    one = point(batch_size=1)
    relaxed = inputs(load=load, utilisation=1.0)
    tight = inputs(load=load, utilisation=1.0, latency={"end_to_end_s": 3.0})

    few = capacity(relaxed, relaxed.offers[0], one, DRAWS)
    more = capacity(tight, tight.offers[0], one, DRAWS)

    assert few.devices.value == 3
    assert more.devices.value is not None
    assert more.devices.value > 3
    assert more.decided_by == "waiting"
    assert simulated_share(int(more.devices.value), 1.2, 2.5, 3.0) >= SHARE_IN_TIME - 0.01
    assert simulated_share(int(more.devices.value) - 1, 1.2, 2.5, 3.0) < SHARE_IN_TIME


def simulated_share(servers: int, rate: float, service_s: float, limit_s: float) -> float:
    """Share of 40,000 requests of one length that end within a limit, first come first served."""
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(1 / rate, 40_000))
    free = [0.0] * servers
    heapq.heapify(free)
    in_time = 0
    for arrival in arrivals:
        begin = max(arrival, heapq.heappop(free))
        heapq.heappush(free, begin + service_s)
        in_time += begin + service_s - arrival <= limit_s
    return in_time / len(arrivals)


def test_the_chance_to_wait_is_erlangs() -> None:
    # 10 erlangs on 12 servers: C = 0.4494 (tables of Erlang's C).
    chance, rate = waiting(np.array([12.0]), np.array([10.0]), np.full((1, 4), 2.0))
    assert chance[0] == pytest.approx(0.4494, abs=5e-4)
    assert rate[0] == pytest.approx((12 - 10) / 2.0 * 2)  # service of one length: half the wait
    full, never = waiting(np.array([10.0]), np.array([10.0]), np.full((1, 4), 2.0))
    assert (full[0], never[0]) == (1.0, 0.0)


def test_the_fleet_is_enough_in_95_percent_of_draws_or_of_those_that_any_number_serves() -> None:
    given = inputs(load={"requests_per_s": {"low": 2, "mode": 10, "high": 40}, "reply_tokens": 256})
    exact = capacity(given, given.offers[0], point(), DRAWS)

    # A request a second keeps a slot busy; of a device's four, half may be used.
    needs = np.ceil(np.random.default_rng(0).triangular(2, 10, 40, 100_000) / 2)
    assert exact.devices.value == pytest.approx(np.quantile(needs, 0.95), abs=1)
    assert exact.needed.value == 5
    assert exact.share_served >= 0.95 > exact.share_enough((exact.devices.value or 0) - 1)
    assert exact.cost_per_month.value == pytest.approx((exact.devices.value or 0) * 3.0 * 730.5)
    assert np.isinf(exact.monthly_draws).mean() == pytest.approx(1 - exact.share_served)
    (requests,) = exact.hinges
    assert requests.name == "load.requests_per_s"
    assert requests.devices_low < (exact.devices.value or 0) < requests.devices_high

    # A first delivery of 1 s (0.8 to 1.3) is within 1.05 s in some two thirds of draws.
    late = replace(
        given, latency=Latency(first_canvas_s=1.05, canvas_gap_s=None, end_to_end_s=None)
    )
    slow = point(first_canvas_s=cell(1.0, 0.8, 1.3))
    risky = capacity(late, late.offers[0], slow, DRAWS)
    assert 0.5 < risky.share_possible < 0.8
    assert risky.share_served / risky.share_possible == pytest.approx(0.95, abs=0.02)


def test_a_fleet_that_is_too_small_delivers_what_its_slots_can() -> None:
    load = inputs(load={"requests_per_s": 10, "reply_tokens": 1024}).load
    assert load
    offer, one, replies = inputs().offers[0], point(), np.full(10, 1024.0)
    numbers = {
        **{name: np.array([value]) for name, value in (("requests_per_s", 10.0),)},
        **{"first_canvas_s": np.array([1.0]), "first_canvas_p95_s": np.array([1.0])},
        **{"canvas_gap_s": np.array([0.5]), "utilisation": np.array([0.5])},
        **{"system_tok_per_s": np.array([1000.0]), "price_per_hour": np.array([3.0])},
    }
    need = needed(numbers, one, load, NO_LIMIT, replies)
    found = priced(numbers, offer, one, need, np.array([2.0]), replies)
    # Eight slots of 1,024 tokens in 2.5 s each, where 25 would be busy.
    assert found["utilisation"] == [1.0]
    assert found["per_mtok"] == pytest.approx(2 * 3.0 / (8 * 1024 / 2.5 * 3600) * 1e6)


def test_a_load_beyond_every_fleet_has_none() -> None:
    given = inputs(load={"requests_per_s": 1e9, "reply_tokens": 1024})
    found = capacity(given, given.offers[0], point(), DRAWS)
    assert found.devices.value is None
    assert found.why_none == "it takes more than 1,000,000 devices"


def test_no_fleet_is_a_reason_and_not_an_error() -> None:
    given = inputs(load={"requests_per_s": 1, "reply_tokens": 1024}, latency={"end_to_end_s": 2.0})

    found = capacity(given, given.offers[0], point(), DRAWS)
    unknown = capacity(given, given.offers[0], point(canvas_gap_s=cell(None)), DRAWS)

    assert found.devices.value is None
    assert found.why_none == "no number of devices keeps the latency limits"
    assert np.isinf(found.monthly_draws).all()
    assert "time between deliveries" in unknown.why_none
    no_rate = capacity(given, given.offers[0], point(system_tok_per_s=cell(None)), DRAWS)
    assert no_rate.why_none == "tokens a second: not measured"
    without = inputs()
    with pytest.raises(ValueError, match="state no load"):
        capacity(without, without.offers[0], point(), DRAWS)


def test_devices_carry_the_interval_of_the_measured_times() -> None:
    given = inputs(load={"requests_per_s": 40, "reply_tokens": [256, 512, 1024]})
    points, _ = measured_points(campaign(Device(process_sd=0.1), 2, processes=4, prompts=30))

    fleet = capacity(given, given.offers[0], points[0], DRAWS)

    found = fleet.needed
    assert (fleet.devices.value or 0) > (found.value or 0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < (found.value or 0) < found.high
    assert float(found.low).is_integer()
