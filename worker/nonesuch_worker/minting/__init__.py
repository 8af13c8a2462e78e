"""The loop of one worker, from a claimed ticket to a committed batch. It knows nothing of Ray."""
