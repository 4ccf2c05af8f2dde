"""Sources: who says which versions of which models are wanted."""
