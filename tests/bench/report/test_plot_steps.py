"""What the step plots draw where two panels share an axis."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from bench.report.plot_steps import _revocations


@pytest.mark.parametrize("shares", [([0.01, 0.02], [0.01, 0.08]), ([0.01, 0.08], [0.0, 0.0])])
def test_no_panel_of_a_row_is_cut_off(shares: tuple[list[float], list[float]]) -> None:
    figure, panels = plt.subplots(1, 2, sharey="row")
    for axes, own in zip(panels, shares, strict=True):
        _revocations(axes, pd.DataFrame({"revoked_share": own}), "-")
    low, high = panels[0].get_ylim()
    assert low == 0
    assert high > 100 * max(max(own) for own in shares)
    plt.close(figure)
