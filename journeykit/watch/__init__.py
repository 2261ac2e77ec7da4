"""What is unusual now: stale sources, unusual volumes, numbers outside of what chance explains."""
