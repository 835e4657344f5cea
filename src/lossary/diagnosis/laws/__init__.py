"""What a side computes, fitted: the forward function, losses, gradients, updates, schedules."""
