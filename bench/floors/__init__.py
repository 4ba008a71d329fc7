"""The floors: the least that anybody could write in the hub's place, run as processes of their own."""
