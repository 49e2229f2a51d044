"""`python -m stratos.verify`: check that a bundle is what was made, and answers as it did."""
