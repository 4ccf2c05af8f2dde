"""The protocols: what requests mean and how answers look. Knows no sockets and no framework."""
