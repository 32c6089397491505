"""`canvasbench profile`: where the time and memory of a point's forwards go, by op group.

A profile is no measurement of speed: steps run under torch's profiler, which slows them by an
amount that is measured and stated. Recording needs torch (`record`, `labels`, `floors`); whatever
reads a trace and shows it does not.
"""
