"""Two revisions measured in turn, each by its own code; how far such comparisons can be trusted.

The package imports no torch: models are loaded in the processes it starts. Like the modules of a
verb, its parts are imported when the verb runs.
"""
