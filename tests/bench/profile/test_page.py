"""The page: self-contained, complete, and text whatever names a trace brings."""

from pathlib import Path

import pytest

from bench.profile.diff import diff_profiles
from bench.profile.folder import Profile
from bench.profile.page import write_diff, write_page
from tests.bench.profile.synthetic import (
    allocation,
    forward,
    gpu_events,
    group,
    host,
    kernel,
    launch,
    step,
    write_profile,
)
from tests.browser import Browser
from tests.narrow import assert_prints, assert_reads_narrow, broken_words

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{1}{2}$\u202e&amp;"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, small_pictures: None) -> Profile:
    """Names with tags, scripts, formulas and a change of direction wherever a name may stand."""
    events = [
        step(1, 0, 90),
        group(HOSTILE, 0, 80),
        host(HOSTILE, 0, 20),
        launch(1, 2),
        launch(2, 40),
        kernel(HOSTILE, 1, 10, 20, **{"blocks per SM": HOSTILE}),
        kernel("second", 2, 60, 20),
        allocation(5, 100, 1000),
    ]
    path = tmp_path_factory.mktemp("hostile") / "p"
    return write_profile(
        path,
        events,
        [forward(1, "denoise", 0.09)],
        on_gpu=True,
        point_id=HOSTILE,
        config={"model": HOSTILE},
        command=HOSTILE,
        execution=HOSTILE,
        machine={"device": HOSTILE, "cpu": HOSTILE},
    )


def test_hostile_names_stay_text(hostile: Profile, browser: Browser) -> None:
    diff = write_diff(diff_profiles(hostile, hostile), hostile.path / "diff.html")
    for path in (write_page(hostile), diff):
        assert "<script" not in path.read_text()
        assert "<img src=x" not in path.read_text()
        with browser.page(path.as_uri()) as page:
            assert page.evaluate("document.scripts.length") == 0
            assert (
                page.evaluate("document.querySelectorAll('img:not([src^=\"data:\"])').length") == 0
            )
            assert HOSTILE in page.evaluate("document.body.textContent")
            assert page.errors == []
            assert page.requests == []


def test_the_page_has_every_pane_and_needs_no_network(reported: Path, browser: Browser) -> None:
    with browser.page(reported.as_uri()) as page:
        ids = page.evaluate("[...document.querySelectorAll('section')].map(s => s.id)")
        assert ids == [
            "advice",
            "breakdown",
            "operators",
            "kernels",
            "gaps",
            "memory",
            "overhead",
            "trace",
            "provenance",
        ]
        targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
        assert set(targets) <= set(ids)
        assert "Profiled: no measurement of speed" in page.evaluate("document.body.innerText")
        assert page.evaluate("[...document.images].every(i => i.naturalWidth && i.alt)")
        assert page.errors == []
        assert page.requests == []
        assert_reads_narrow(page)
        assert_prints(page)
        assert broken_words(page, "tbody th") == []
        assert broken_words(page, "tbody th", longest=99) != []  # the names of operations


def test_a_gpu_profile_has_its_kernels(tmp_path: Path, small_pictures: None) -> None:
    events = [*gpu_events(0, 1), *gpu_events(110, 2)]
    notes = [forward(1, "denoise", 0.11), forward(2, "denoise", 0.11)]
    text = write_page(write_profile(tmp_path, events, notes, on_gpu=True)).read_text()
    assert "cutlass_gemm" in text
    assert "launch not issued" in text
    assert "for 14.3 % of the step the device is idle" in text
