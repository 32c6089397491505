"""Published claims as files, and verdicts on them by measured runs."""
