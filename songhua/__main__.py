"""`python -m songhua` is the command `songhua`."""

from songhua.cli import main

main()
