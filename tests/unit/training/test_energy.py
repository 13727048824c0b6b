from __future__ import annotations

from pathlib import Path

import pytest

from unroll.training import energy as energy_module
from unroll.training.energy import Counter, counting_energy, processor_counters


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages and a part of one, as the kernel lays them out."""
    for zone, joules in (("intel-rapl:0", 100), ("intel-rapl:0:0", 7), ("intel-rapl:1", 50)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{joules}000000\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("262143000000\n")
    return tmp_path


def test_packages_are_counted_and_their_parts_are_not(powercap: Path) -> None:
    counters = processor_counters(powercap)
    assert [counter.read() for counter in counters] == [100.0, 50.0]
    assert counters[0].range == 262143.0


def test_what_may_not_be_read_is_no_counter(powercap: Path) -> None:
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    (powercap / "intel-rapl:1" / "energy_uj").write_text("")
    assert processor_counters(powercap) == []
    assert processor_counters(powercap / "nowhere") == []


def test_a_block_costs_what_the_counters_moved_on_over_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"first": 10.0, "second": 95.0}
    counters = [Counter(lambda: values["first"], 1_000.0), Counter(lambda: values["second"], 100.0)]
    monkeypatch.setattr(energy_module, "processor_counters", lambda: counters)
    monkeypatch.setattr(energy_module, "gpu_counters", list)
    with counting_energy() as energy:
        values |= {"first": 42.0, "second": 3.0}
    assert energy.processor_joules == 32 + 8
    assert energy.gpu_joules is None
    assert energy.seconds > 0


def test_a_counter_that_breaks_off_leaves_no_sum_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([1.0])

    def read() -> float:
        for answer in answers:
            return answer
        raise PermissionError("no longer")

    monkeypatch.setattr(energy_module, "processor_counters", lambda: [Counter(read, 10.0)])
    with counting_energy() as energy:
        pass
    assert energy.processor_joules is None


def test_an_error_of_the_block_comes_through() -> None:
    with pytest.raises(ZeroDivisionError), counting_energy():
        raise ZeroDivisionError
