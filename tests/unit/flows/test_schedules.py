"""Schedules keep to hours that every time zone has once a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import yaml

ROOT = Path(__file__).resolve().parents[3]
STEP = timedelta(minutes=30)
WEEK = timedelta(days=7)
"""Shorter than any zone keeps to one offset."""
YEARS = (2025, 2031)


def crons() -> dict[str, str]:
    made = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return {each["name"]: one["cron"] for each in made["deployments"] for one in each.get("schedules", [])}


def times_of_day() -> dict[str, int]:
    """Minute of the day of each schedule that has one; what comes every few minutes may come once more or less."""
    fixed = {name: cron.split()[:2] for name, cron in crons().items() if "*" not in cron.split()[1]}
    return {name: int(hour) * 60 + int(minute) for name, (minute, hour) in fixed.items()}


def odd_minutes(zone: ZoneInfo) -> set[int]:
    """Minutes of the day that the zone skips or has twice on some day."""
    odd = set[int]()
    time, end = (datetime(year, 1, 1, tzinfo=UTC) for year in YEARS)
    known = zone.utcoffset(time)
    assert known is not None
    while time < end:
        if zone.utcoffset((time + WEEK).astimezone(zone)) != known:
            while zone.utcoffset((time + STEP).astimezone(zone)) == known:
                time += STEP
            time += STEP
            new = zone.utcoffset(time.astimezone(zone))
            assert new is not None
            first, last = sorted((time + known, time + new))
            begin = first - STEP  # the change lies within the step
            odd |= {(begin.hour * 60 + begin.minute + more) % 1440 for more in range(int((last - begin).seconds / 60))}
            known = new
        else:
            time += WEEK
    return odd


def test_nightly_and_weekly_have_a_time_of_day() -> None:
    assert set(times_of_day()) == {"nightly", "weekly"}
    assert crons()["changes"] == "*/5 * * * *"


def test_no_time_zone_skips_or_repeats_the_time_of_a_schedule() -> None:
    times = set(times_of_day().values())
    odd = {zone for zone in available_timezones() if times & odd_minutes(ZoneInfo(zone))}
    assert odd == set()


def test_the_hours_that_zones_do_skip_or_repeat_are_known_as_such() -> None:
    assert {2 * 60, 2 * 60 + 59} <= odd_minutes(ZoneInfo("Europe/Madrid"))
    assert 3 * 60 in odd_minutes(ZoneInfo("Europe/Athens"))
    assert 0 in odd_minutes(ZoneInfo("America/Havana"))
    assert odd_minutes(ZoneInfo("Asia/Tokyo")) == set()
