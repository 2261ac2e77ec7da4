"""Who leaves, when, and what goes with it: from what leaving means to the list of whom to call."""
