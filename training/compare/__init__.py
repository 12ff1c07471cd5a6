"""Methods against one another: the same budget, the same search, several seeds, one report.

settings ─► plan ─► grid ─► run ─► store ─► rows ─► page, html
"""
