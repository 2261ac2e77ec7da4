"""What a change without a test brought, and what became of what was done."""
