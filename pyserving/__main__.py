"""`python -m pyserving`."""

from pyserving.main import main

main()
