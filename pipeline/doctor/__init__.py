"""The doctor: names what would go wrong before it does, and says what to do; it changes nothing."""
