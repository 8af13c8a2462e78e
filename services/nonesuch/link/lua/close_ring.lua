-- close_ring: deletes a ring with everything in it and ends the orders that deliver to it.
-- ARGV: name, the reader that must have it, or '' for anybody
-- Returns 1, or 0 if there was none, or another reader has begun.
local name, reader = ARGV[1], ARGV[2]
if reader ~= '' and not is_reader(name, reader) then return 0 end
return delete_ring(name)
