"""What each role's work costs on which servers: the options that a plan is made of."""
