"""From a claimed ticket to a committed batch: the loop of one worker, which knows nothing of Ray."""
