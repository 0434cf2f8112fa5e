"""A function that is compiled, and runs in plain Python too."""

from tamarin_dagster.logformat.compiled.compiling import compiled, copy_octets, eight_octets, moved, pointer


@compiled
def steps(source, target):
    place = moved(pointer(source), 1)
    copy_octets(pointer(target), 2, place, 1, 3)
    return eight_octets(place, 0)
