"""Write numbers, days and classes as texts of a report."""

from datetime import date, timedelta

from tamarin_dagster.analytics.report.figures import SizeClass

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY_UNITS = ("bytes", "KiB", "MiB", "GiB")


def as_count(number: int) -> str:
    """Write `12,345`."""
    return f"{number:,}"


def as_short_count(number: int) -> str:
    """Write three digits: `12.3 k`, `1.23 M`; all digits below 10,000."""
    if number < 10_000:
        return f"{number:,}"
    return _three_digits(number, ("", "k", "M", "G", "T", "P", "E"))


def as_bytes(number: int) -> str:
    """Write three digits: `1.23 GB`, of 10^9 bytes."""
    return _three_digits(number, _UNITS)


def as_size(number: int | None) -> str:
    """Write the size of an object; empty if it is not known."""
    return "" if number is None else as_bytes(number)


def as_share(share: float) -> str:
    """Write `12.3 %`; a share above 0 is never written as 0."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def as_multiple(multiple: float | None) -> str:
    """Write `1,234 ×`; below ten with a digit after the point."""
    if multiple is None:
        return ""
    return f"{multiple:,.0f} ×" if multiple >= 9.95 else f"{multiple:.1f} ×"


def as_change(now: float, before: float) -> str:
    """Write `+12 %` or `−3 %`; from tenfold on `14 ×`; empty if `before` is 0."""
    if not before:
        return ""
    change = now / before - 1
    if change >= 9:
        return f"{now / before:,.0f} ×"
    return f"{'−' if change < 0 else '+'}{abs(100 * change):.0f} %"


def as_dollars(dollars: float) -> str:
    """Write `$ 1,234.50`."""
    return f"$ {dollars:,.2f}" if dollars >= 0.005 or not dollars else "< $ 0.01"


def as_day(day: date) -> str:
    """Write `Thu 5 March`."""
    return f"{WEEKDAYS[day.weekday()]} {day.day} {day:%B}"


def as_date(day: date) -> str:
    """Write `5 March 2026`."""
    return f"{day.day} {day:%B} {day.year}"


def as_days(days: tuple[date, ...]) -> str:
    """Write the numbers of the days: `1, 2, 3 and 9 others`."""
    named = [str(day.day) for day in days[:5]]
    more = len(days) - len(named)
    return ", ".join(named) + (f" and {more} other{'s' * (more > 1)}" if more else "")


def as_named_days(days: tuple[date, ...]) -> str:
    """Write `day 3` or `days 3, 4`."""
    return f"day{'s' * (len(days) != 1)} {as_days(days)}"


def as_duration(time: timedelta) -> str:
    """Write at most two units: `47 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes = round(time.total_seconds() / 60)
    if minutes < 1:
        return f"{max(time.total_seconds(), 0):.0f} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def as_status_class(status_class: int | None) -> str:
    """Write `2xx`; `none` for requests without a status."""
    return "none" if status_class is None else f"{status_class}xx"


def as_size_class(size: SizeClass) -> str:
    """Write `< 16 KiB`, `1 to 16 MiB` or `≥ 1 GiB`."""
    if size.below is None:
        return f"≥ {' '.join(_binary(size.min_bytes))}"
    upper, unit = _binary(size.below)
    if size.min_bytes == 0:
        return f"< {upper} {unit}"
    lower, lower_unit = _binary(size.min_bytes)
    return f"{lower}{'' if lower_unit == unit else f' {lower_unit}'} to {upper} {unit}"


def _binary(number: int) -> tuple[str, str]:
    power = 0
    while number >= 1024 and power < len(_BINARY_UNITS) - 1:
        number, power = number // 1024, power + 1
    return str(number), _BINARY_UNITS[power]


def _three_digits(number: int, units: tuple[str, ...]) -> str:
    if number < 1000:
        return f"{number} {units[0]}".strip()
    scaled, power = float(number), 0
    while round(scaled, 2 - len(str(int(scaled))) + 1) >= 1000 and power < len(units) - 1:
        scaled, power = scaled / 1000, power + 1
    digits = max(3 - len(str(int(scaled))), 0)
    return f"{scaled:,.{digits}f} {units[power]}"
