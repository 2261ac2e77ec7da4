"""Charts: one function per chart, a tested table in, matplotlib Axes out."""
