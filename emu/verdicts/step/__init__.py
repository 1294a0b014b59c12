"""A machine between two steps, for a person to look at: what it holds, what just happened, what comes next."""
