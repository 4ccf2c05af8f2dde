"""Wire formats to arrays and back; pure functions, safe in any thread."""
