"""The demo: three versions of a model are released while a client keeps asking; every claim is checked."""
