-- close_ring: deletes a ring with everything in it and ends the orders that deliver to it.
-- ARGV: name
-- Returns 1, or 0 if there was none.
return delete_ring(ARGV[1])
