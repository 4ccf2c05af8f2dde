"""`python -m pyserving`."""

from pyserving.commands import main

main()
