"""Two runs side by side: settings, plan, and a paired test on the test items that both answered."""
