"""Requests that are run together: forming batches is pure, carrying them out is the scheduler's."""
