"""Real stacks on both sides of the emulated NIC: frames come from one interface, and only survivors go to the other."""
