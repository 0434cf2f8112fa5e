"""How long a sensor waits for more log keys before it requests another run. This module does not import Dagster.

A run leaves about fifty rows in Dagster's storage, whether it loads one log key or a thousand.
"""

# A few keys wait for six ticks: half an hour at the default interval, which is 48 runs a day for a key a minute.
TICKS_FOR_A_FEW_KEYS = 6
# From this number on, keys do not wait at all. Below it, the wait is inversely proportional to the number of keys.
KEYS_THAT_DO_NOT_WAIT = 600


def minutes_to_wait(keys: int, minutes_since_last_run: float | None, *, interval: float, least: float | None) -> float:
    """Return for how many minutes a run for these keys should still wait; 0 if it should start now.

    Args:
        keys: how many log keys of the partition are not loaded.
        minutes_since_last_run: since the end of the partition's last run; None if there was none. The first run starts
            at once, so that people see something of the partition.
        interval: minutes between two ticks of the sensor.
        least: the minimum between two runs, if it is set; None if the number of keys decides.
    """
    if minutes_since_last_run is None:
        return 0
    if least is None:
        least = (
            0 if keys >= KEYS_THAT_DO_NOT_WAIT else interval * min(TICKS_FOR_A_FEW_KEYS, KEYS_THAT_DO_NOT_WAIT / keys)
        )
    return max(0, least - minutes_since_last_run)
