"""Which encoder, with which network, for which places: small trainings of all of them.

See `benchmarks.choose.__main__` for the commands.
"""
