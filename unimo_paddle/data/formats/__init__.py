"""Public data sets as they are published, read into records of ours: one module a family.

A reader yields the place and the record of every item, or what is wrong with it; what is wrong
with a whole file is a ``UserError``. ``tools/prepare_data.py`` writes what comes out into the
files that the tasks read.
"""
