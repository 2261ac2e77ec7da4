"""Own data in minutes: look at files, recognise presets, guess what columns mean, write journey.toml."""
