"""The experiments that are shipped, one TOML file each: `emu scenarios`."""
