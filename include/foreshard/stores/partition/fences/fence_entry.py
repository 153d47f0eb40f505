"""Where a partition keeps its fences' lists, for everyone who reads them."""

BOOKKEEPING_DATABASE = "foreshard"
FENCES = "fences"
STATE = {"revision": 1, "holder": 1}
"""Says cheaply whether a fence has changed: ``revision`` rises with every change, ``holder`` is set while one is under way."""
