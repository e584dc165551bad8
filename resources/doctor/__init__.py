"""The doctor: looks at what a machine reaches and what its settings mean, and says what to do, and changes nothing."""
