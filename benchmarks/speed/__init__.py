"""How fast geoenc is, beside the limits of the machine and beside other ways of doing the same."""
