"""The life of a version, from the wish for it to its end: decide (policy), carry out (manager), remember (monitor)."""
