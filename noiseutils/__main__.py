"""`python -m noiseutils` is the command line."""

from noiseutils.cli import main

main()
