"""Who puts frames on the wire, and when: captured frames become arrivals at the emulated NIC."""
