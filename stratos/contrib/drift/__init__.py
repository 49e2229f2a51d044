"""Whether live requests and answers are still those that a student was evaluated on."""
