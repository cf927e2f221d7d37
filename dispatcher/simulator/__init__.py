"""A world behind the ports with a virtual clock: the production reconciler runs in it, thousands of cycles a second."""
