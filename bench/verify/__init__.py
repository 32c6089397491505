"""`canvasbench verify`: is a folder of real weights what was published, and does our engine agree
with `transformers` on them."""
