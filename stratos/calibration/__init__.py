"""Whether predictions of past runs came true: how often measured values lie in their intervals."""
