"""When events leave and come again: profiles, arrivals, the sender of one generator process."""
